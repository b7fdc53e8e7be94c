"""Intervals, tests and the verdict on outcomes; needs NumPy and SciPy alone.

`judge` gives a verdict from outcomes alone. `summary` computes all numbers of a sweep, `config_summary` those of one
config, and `verdict` states the rule that names an effect; `dev/simulations` checks that rule. The task is the unit in
`pairing`, `effects` and `intervals.clustered`; `pooled` and `stratified` speak of trials and of these tasks alone.
`rewards` has the mean reward, where rewards are partial. `mediation` and `format_change` tell solving from format.
`sensitivity` and `drift` ask whether a finding depends on the instrument. `power` and `power_warning` compute what a
sweep can detect. `sequential`, `spending` and `futility` let it stop early. `multiplicity` and
`matched_controls` account for many comparisons and for controls.
"""
