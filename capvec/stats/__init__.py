"""Intervals, tests and the verdict on outcomes: nothing but NumPy and SciPy beneath the records.

`summary.summarise` runs everything; `verdict` holds the rule by which an effect gets its name, and `simulate` shows
that it keeps its word. The task is the unit (`pairing`, `effects`, `intervals.clustered`); `pooled` and `stratified`
speak of trials and of these tasks alone. `mediation` and `form` tell solving from form, `sensitivity` and `drift` ask
whether the finding hangs on the instrument, `power` what a sweep can see, `spending` and `sequential` how it may stop
early, `multiplicity` and `twins` what many comparisons and controls do to it. `wording` is how numbers are shown.
"""
