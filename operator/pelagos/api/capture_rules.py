"""Rules across the fields of a Dataset about when and where images were taken."""

from __future__ import annotations

from pelagos.api.meta import Rule, stays_below_root
from pelagos_contract.capture import GROUP_FIELDS

_GROUPED = ("Grouped", "GroupedTemporal")
_HOLDS_OUT_BY_CAPTURE = " || ".join(f"has(self.split.holdout.{field})" for field in GROUP_FIELDS)

RULES = (
    Rule(
        cel="!has(self.capture) || has(self.capture.file) == (self.capture.from == 'Csv' || self.capture.from == 'Ifdo')",
        message="spec.capture.file must be set with from: Csv and from: Ifdo, and with no other",
        field="spec.capture.file",
        holds=lambda spec: spec.capture is None or (spec.capture.file is not None) == spec.capture.is_listed,
    ),
    Rule(
        cel="!has(self.capture) || !has(self.capture.file) || (!self.capture.file.startsWith('/') && "
        "!self.capture.file.split('/').exists(p, p == '..'))",
        message="spec.capture.file must be relative to the source and must not contain '..'",
        field="spec.capture.file",
        holds=lambda spec: spec.capture is None or spec.capture.file is None or stays_below_root(spec.capture.file),
    ),
    Rule(
        cel="!has(self.capture) || self.capture.from != 'Folder' || has(self.capture.pattern)",
        message="spec.capture.pattern must describe the names of folders when from is Folder, for example "
        "{site}/{deployment}/{*}",
        field="spec.capture.pattern",
        holds=lambda spec: spec.capture is None or spec.capture.from_ != "Folder" or spec.capture.pattern is not None,
    ),
    Rule(
        cel="!has(self.capture) || !has(self.capture.columns) || self.capture.from == 'Csv'",
        message="spec.capture.columns goes only with from: Csv",
        field="spec.capture.columns",
        holds=lambda spec: spec.capture is None or spec.capture.columns is None or spec.capture.from_ == "Csv",
    ),
    Rule(
        cel="!has(self.split.groupBy) || self.split.policy == 'Grouped' || self.split.policy == 'GroupedTemporal'",
        message="spec.split.groupBy goes only with policy Grouped or GroupedTemporal",
        field="spec.split.groupBy",
        holds=lambda spec: spec.split.group_by is None or spec.split.policy in _GROUPED,
    ),
    Rule(
        cel="!has(self.split.gap) || self.split.policy == 'GroupedTemporal'",
        message="spec.split.gap goes only with policy GroupedTemporal",
        field="spec.split.gap",
        holds=lambda spec: spec.split.gap is None or spec.split.policy == "GroupedTemporal",
    ),
    Rule(
        cel="!has(self.split.holdout) || self.split.policy != 'Provided'",
        message="spec.split.holdout does not go with policy Provided, where the source decides what is in test",
        field="spec.split.holdout",
        holds=lambda spec: spec.split.holdout is None or spec.split.policy != "Provided",
    ),
    Rule(
        cel="has(self.capture) || (!has(self.split.groupBy) && self.split.policy != 'GroupedTemporal' && "
        f"(!has(self.split.holdout) || !({_HOLDS_OUT_BY_CAPTURE})))",
        message="spec.capture must say when and where images were taken, since spec.split divides by that (policy "
        "GroupedTemporal, groupBy, holdout of anything but group)",
        field="spec.capture",
        holds=lambda spec: (
            spec.capture is not None
            or (
                spec.split.group_by is None
                and spec.split.policy != "GroupedTemporal"
                and (spec.split.holdout is None or not {*GROUP_FIELDS} & spec.split.holdout.written().keys())
            )
        ),
    ),
)
