"""The sweep: one direction at the requested layers and strengths, compared with the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from capvec.directions.direction import named_direction
from capvec.plan.configs import config_name, control_names, layers_label
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan
from capvec.records import Config, Outcome
from capvec.results.results import Judgement
from capvec.results.zero_control import judge_zero
from capvec.run.study import StudyContext, StudyDesign
from capvec.sandbox.compose_file import check_services
from capvec.stats.summary import Summary
from capvec.studies.sweep_design import alphas_of, design_configs, mode_of
from capvec.tasks import load_tasks
from capvec.traces import check_traces


class SweepStudy:
    """One direction at the requested layers and strengths, with controls, compared with the baseline."""

    name = "sweep"

    def __init__(self, options: SweepOptions) -> None:
        """Read the tasks, and check the direction's files as far as that is possible without the model's shape.

        Raises:
            UsageError: a bad task folder, or a file that is missing or unreadable.
        """
        for option, named in (("--direction", options.direction), ("--reference", options.reference)):
            if named is not None:
                named_direction(option, named)
        if options.traces is not None:
            check_traces(Path(options.traces))
        self.options = options
        loaded = load_tasks(
            options.tasks,
            skip=options.skip_unsupported,
            allow_network=options.allow_network,
            force_build=options.force_build,
            check=check_services,
        )
        self.tasks, self.left_out = loaded.tasks, loaded.left_out

    @property
    def asked(self) -> Mapping[str, Any]:
        return self.options.recorded(self.name)

    def config_names(self) -> tuple[Config, ...]:
        options, mode = self.options, mode_of(self.options)
        layers = [layers_label(group) for group in options.layers] if options.layers else ["auto"]
        steered = [
            (config_name(where, alpha, options.alpha_unit, mode), where)
            for where in layers
            for alpha in alphas_of(options)
        ]
        controls = dict.fromkeys(
            name
            for control in options.controls
            for base, where in steered
            for name in control_names(control, base, where, mode)
        )
        return (
            Config(Config.BASELINE, "baseline"),
            *(Config(name, "steered") for name, _ in steered),
            *(Config(name, "control") for name in controls),
        )

    def design(self, context: StudyContext) -> StudyDesign:
        return design_configs(self.options, context)

    def judge(
        self,
        plan: Plan,
        outcomes: Sequence[Outcome],
        summary: Summary,  # noqa: ARG002
        design: StudyDesign,  # noqa: ARG002
    ) -> Judgement:
        """Judge the `zero` control, whose replies must be the baseline's."""
        return Judgement(judge_zero(plan, outcomes))
