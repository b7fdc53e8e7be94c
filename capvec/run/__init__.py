"""Running a study: preparation, trials, progress."""
