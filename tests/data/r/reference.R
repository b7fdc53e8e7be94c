# Reference values for tests/unit/stats/test_against_r.py. Run in this folder:  Rscript reference.R
# It writes one CSV file per group of tests, each with R's version in its first line.
# Needs base R alone (Debian: r-base-core).
options(digits = 15)
set.seed(20261125)

write_table <- function(rows, name) {
  data <- do.call(rbind, lapply(rows, as.data.frame))
  file <- file(paste0(name, ".csv"), "w")
  writeLines(paste("#", R.version.string), file)
  write.csv(data, file, row.names = FALSE)
  close(file)
}

tables <- list(c(2, 6, 2, 6), c(1, 6, 2, 6), c(0, 5, 1, 5), c(3, 4, 1, 4), c(0, 17, 5, 17), c(17, 17, 9, 17),
               c(9, 20, 3, 20), c(28, 80, 16, 80), c(7, 12, 4, 15), c(0, 6, 0, 6), c(12, 30, 25, 31))

write_table(lapply(tables, function(t) {
  x <- t[1]; n <- t[2]; y <- t[3]; m <- t[4]
  list(x = x, n = n, y = y, m = m,
       fisher = fisher.test(matrix(c(x, n - x, y, m - y), 2))$p.value)
}), "pooled")

write_table(lapply(list(c(0, 17), c(1, 6), c(2, 6), c(9, 17), c(17, 17), c(48, 136), c(135, 136)), function(t) {
  wilson <- suppressWarnings(prop.test(t[1], t[2], correct = FALSE))$conf.int
  clopper <- binom.test(t[1], t[2])$conf.int
  list(x = t[1], n = t[2], wilson_low = wilson[1], wilson_high = wilson[2],
       clopper_low = clopper[1], clopper_high = clopper[2])
}), "intervals")

write_table(lapply(list(c(0, 0), c(0, 5), c(1, 7), c(3, 3), c(12, 4), c(40, 61)), function(t) {
  p <- if (sum(t) == 0) 1 else binom.test(t[1], sum(t))$p.value
  list(only_config = t[1], only_baseline = t[2], mcnemar = p)
}), "mcnemar")

# Strata of the stratified test, one row each; `set` tells them apart.
strata <- do.call(rbind, lapply(1:8, function(set) {
  tasks <- c(2, 3, 6, 6, 17, 17, 20, 40)[set]
  n <- if (set %in% c(4, 6)) sample(1:5, tasks, TRUE) else rep(c(5, 4, 3, 0, 5, 0, 2, 2)[set], tasks)
  m <- if (set %in% c(4, 6)) sample(1:5, tasks, TRUE) else n
  rate <- plogis(rnorm(tasks, 0, 1.5))
  data.frame(set = set, task = 1:tasks, x = rbinom(tasks, n, plogis(qlogis(rate) + set / 8)), n = n,
             y = rbinom(tasks, m, rate), m = m)
}))
cmh <- lapply(split(strata, strata$set), function(s) {
  # R divides by zero where a stratum has a single trial; they, and those that are all alike, tell nothing.
  s <- s[s$n + s$m > 1 & s$x + s$y > 0 & s$x + s$y < s$n + s$m, ]
  counts <- array(rbind(s$x, s$n - s$x, s$y, s$m - s$y), c(2, 2, nrow(s)))
  asymptotic <- mantelhaen.test(counts)
  # Under half a trial from expectation R leaves the continuity correction out; capvec's statistic is 0 there.
  list(set = s$set[1], excess = sum(s$x - s$n * (s$x + s$y) / (s$n + s$m)), chi2 = unname(asymptotic$statistic), asymptotic = asymptotic$p.value,
       odds_ratio = unname(asymptotic$estimate), exact = mantelhaen.test(counts, exact = TRUE)$p.value)
})
write_table(list(strata), "strata")
write_table(cmh, "cmh")

write_table(lapply(list(c(0.01, 0.04, 0.03), c(0.5, 0.5, 0.001, 0.02, 0.02), c(0.9, 0.8), 0.03), function(p)
  list(raw = paste(p, collapse = " "), holm = paste(format(p.adjust(p, "holm"), digits = 15), collapse = " "))), "holm")

# Sign-flip: all patterns, for 6 and 12 tasks.
write_table(lapply(list(c(1, 1, 1, 1, 1, 1), c(2, -1, 0, 3, 1, 0), c(-1, 2, 2, 1, 0, 3, 1, -2, 1, 0, 2, 4)), function(d) {
  signs <- as.matrix(expand.grid(rep(list(c(-1, 1)), length(d))))
  list(differences = paste(d, collapse = " "), p = mean(abs(signs %*% d) >= abs(sum(d)) - 1e-9))
}), "sign_flip")

# Trend of the baseline with time: with ranks as scores and no ties, Cochran-Armitage is the rank sum test.
write_table(lapply(list(c(2, 5, 6, 9, 11, 12), c(1, 2, 3, 4), c(3, 8, 10)), function(late) {
  early <- setdiff(1:12, late)
  list(solved = paste(late, collapse = " "), n = 12, wilcoxon = wilcox.test(late, early, exact = TRUE)$p.value,
       trend = prop.trend.test(as.integer(1:12 %in% late), rep(1, 12))$statistic)
}), "trend")

# Student's t interval on task differences, to which two pseudo-tasks of mean square 1/(2k) are added by hand, with one
# attempt for a task that stood still; then room for the share of tasks that none of them showed.
write_table(lapply(list(c(1, 0.4, 0.2, 0, -0.2, 0.6), c(0, 0, 0, 0, 0, 0), c(0.5, -0.5, 0.5)), function(d) {
  k <- 5; s <- sqrt(mean(ifelse(d == 0, 1, 1 / k)) / 2); padded <- c(d, s, -s); n <- length(d)
  half <- qt(0.975, n - 1) * sqrt(var(padded) / length(padded))
  unseen <- mean(d == 0) * (1 - 0.025^(1 / n)); rest <- (1 - unseen) * mean(d)
  list(differences = paste(d, collapse = " "), attempts = k,
       low = min(mean(padded) - half, rest - unseen), high = max(mean(padded) + half, rest + unseen))
}), "clustered")
