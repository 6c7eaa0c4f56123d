"""The work behind `subgroups`: one pass over the replicates for all groups and their rests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lesionlab.evaluation.intervals.bootstrap import rows_per_block, weight_blocks
from lesionlab.evaluation.intervals.estimate import Estimate, Values, estimate
from lesionlab.evaluation.intervals.p_values import bootstrap_p, holm_by_key, too_few
from lesionlab.evaluation.subgroups.group_metrics import MEANS, Figures, Mask, Scored
from lesionlab.evaluation.subgroups.grouping import UNKNOWN, Grouping
from lesionlab.evaluation.subgroups.result import Gap, Key, Subgroups, first_word
from lesionlab.progress import Listener, Step

LEAST_LESIONS = 20
"""Groups with fewer lesions get no figures."""

LEAST_OF_CLASS = 10
"""With fewer lesions of the positive class, or of all others, a group has no figures of it."""

LEAST_IN_MEAN = 5
"""A class with fewer lesions in a group is not in that group's means over classes."""

MaskKey = tuple[str, str, bool]
"""Grouping, group, and whether it is the group itself or else the rest."""


class GroupWork:
    """One pass over the replicates for all groups and their rests, and what follows from it."""

    def __init__(
        self, scored: Scored, groupings: Sequence[Grouping], metrics: tuple[str, ...]
    ) -> None:
        self.scored = scored
        self.groupings = {each.name: each for each in groupings}
        self.metrics = metrics
        everyone = np.ones(len(scored.targets), dtype=bool)
        self.masks: dict[MaskKey, Mask] = {("", "", True): everyone}
        for grouping in groupings:
            for group in grouping.groups:
                mask = grouping.mask(group)
                if scored.lesions_of(mask) >= LEAST_LESIONS:
                    self.masks[grouping.name, group, True] = mask
                    if scored.lesions_of(~mask) >= LEAST_LESIONS:
                        self.masks[grouping.name, group, False] = ~mask
        self.present = {
            key: scored.present(mask, LEAST_IN_MEAN) for key, mask in self.masks.items()
        }
        self.figures: dict[MaskKey, Figures] = {}
        self.softened: dict[MaskKey, Figures] = {}

    def run(
        self, lesions: NDArray[np.object_], replicates: int, seed: int, listen: Listener
    ) -> None:
        """Compute the figures of every mask."""
        blocks: dict[MaskKey, list[Figures]] = {key: [] for key in self.masks}
        done = 0
        for weights in weight_blocks(lesions, replicates, seed, rows_per_block(len(lesions))):
            for key, mask in self.masks.items():
                blocks[key].append(Figures.of(weights, self.scored, mask, self._areas(key)))
            done += len(weights)
            listen(Step("bootstrap over lesions", done, replicates + 1, "replicates"))
        self.figures = {key: Figures.joined(each) for key, each in blocks.items()}
        rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))  # not that of the bootstrap
        self.softened = {
            key: figures.softened(self.scored, self.masks[key], rng)
            for key, figures in self.figures.items()
        }

    def _areas(self, key: MaskKey) -> Mask:
        """The classes whose AUROC is needed: those of the means, and the positive one."""
        wanted = self.present[key].copy()
        if self.scored.positive >= 0:
            wanted[self.scored.positive] = True
        return wanted

    def usable(self, key: MaskKey, metric: str) -> str:
        """Why a metric is not given for some images; "" if it is."""
        word = first_word(metric)
        mask = self.masks[key]
        if word in ("auroc", "sensitivity", "specificity", "mean_specificity"):
            label = self.scored.classes[self.scored.positive]
            own = self.scored.lesions_of(mask & (self.scored.targets == self.scored.positive))
            other = self.scored.lesions_of(mask & (self.scored.targets != self.scored.positive))
            if word in ("auroc", "sensitivity") and own < LEAST_OF_CLASS:
                return f"{own} lesions of {label}, fewer than {LEAST_OF_CLASS}"
            if word != "sensitivity" and other < LEAST_OF_CLASS:
                return f"{other} lesions of other classes, fewer than {LEAST_OF_CLASS}"
        if word in MEANS and not self.over(self.present[key], metric).any():
            return f"no class has {LEAST_IN_MEAN} lesions"
        if word == "macro_auroc" and self.over(self.present[key], metric).sum() < 2:
            return "a single class: nothing to rank it against"
        return ""

    def over(self, classes: Mask, metric: str) -> Mask:
        """The classes that a metric averages: all, or all but the positive one."""
        if first_word(metric) != "mean_specificity":
            return classes
        others: Mask = np.arange(len(classes)) != self.scored.positive
        return classes & others

    def values(self, key: MaskKey, metric: str, classes: Mask, *, softened: bool = False) -> Values:
        """A metric's replicates, means over `classes`; softened for comparisons."""
        found = (self.softened if softened else self.figures)[key]
        return found.metric(first_word(metric), self.scored.positive, self.over(classes, metric))

    def estimate(self, values: Values, metric: str, mask: Mask, *, share: bool = False) -> Estimate:
        """With the counts of what the metric rests on."""
        word = first_word(metric)
        if word == "sensitivity":
            mask = mask & (self.scored.targets == self.scored.positive)
        elif word in ("specificity", "mean_specificity"):
            mask = mask & (self.scored.targets != self.scored.positive)
        share = share and word in ("sensitivity", "specificity", "accuracy")
        return estimate(values, int(mask.sum()), self.scored.lesions_of(mask), proportion=share)

    def names(self, classes: Mask, metric: str) -> tuple[str, ...]:
        """The classes of a mean by name; () where the metric is none."""
        if first_word(metric) not in MEANS:
            return ()
        over = self.over(classes, metric)
        return tuple(each for each, yes in zip(self.scored.classes, over, strict=True) if yes)

    def result(
        self, positive: str, part: str, replicates: int, seed: int, notes: list[str]
    ) -> Subgroups:
        """Everything that was found."""
        whole = "", "", True
        figures, suppressed, gaps = {}, {}, {}
        sizes: dict[tuple[str, str], tuple[int, int, int]] = {}
        classes: dict[tuple[str, str], tuple[str, ...]] = {}
        for grouping in self.groupings.values():
            for group in grouping.groups:
                key = grouping.name, group, True
                mask = grouping.mask(group)
                own = mask & (self.scored.targets == self.scored.positive)
                lesions = self.scored.lesions_of(mask)
                sizes[grouping.name, group] = int(mask.sum()), lesions, self.scored.lesions_of(own)
                if key not in self.masks:
                    why = f"{lesions} lesions, fewer than {LEAST_LESIONS}"
                    suppressed[grouping.name, group, ""] = why
                    continue
                classes[grouping.name, group] = self.names(self.present[key], "balanced_accuracy")
                for metric in self.metrics:
                    name = grouping.name, group, metric
                    if why := self.usable(key, metric):
                        suppressed[name] = why
                    else:
                        values = self.values(key, metric, self.present[key])
                        figures[name] = self.estimate(values, metric, mask, share=True)
                        if (gap := self._gap(key, metric)) is not None:
                            gaps[name] = gap
        widest = {
            (name, metric): found
            for name in self.groupings
            for metric in self.metrics
            if (found := self._widest(name, metric)) is not None
        }
        everyone = {
            metric: self.estimate(
                self.values(whole, metric, self.present[whole]),
                metric,
                self.masks[whole],
                share=True,
            )
            for metric in self.metrics
            if not self.usable(whole, metric)
        }
        tested = max((sum(key[2] == m for key in gaps) for m in self.metrics), default=0)
        notes = [*notes, *([text] if (text := too_few(replicates, tested)) else [])]
        return Subgroups(
            groups={each.name: each.groups for each in self.groupings.values()},
            sizes=sizes,
            figures=figures,
            classes=classes,
            gaps=_adjusted(gaps, self.metrics),
            widest=_adjusted_widest(widest, self.metrics),
            whole=everyone,
            suppressed=suppressed,
            metrics=self.metrics,
            positive=positive,
            part=part,
            replicates=replicates,
            seed=seed,
            notes=notes,
        )

    def _gap(self, key: MaskKey, metric: str) -> Gap | None:
        """A group minus the rest; None where the rest is too small or shares no class."""
        rest = (*key[:2], False)
        if rest not in self.masks or self.usable(rest, metric):
            return None
        common = self.present[key] & self.present[rest]
        over = self.over(common, metric)
        if first_word(metric) in MEANS and not over.any():
            return None
        values = self.values(key, metric, common, softened=True)
        values = values - self.values(rest, metric, common, softened=True)
        every = self.masks[key] | self.masks[rest]
        p = bootstrap_p(values)
        each = self.estimate(values, metric, every)
        return Gap(
            each, math.nan if math.isnan(each.low) else p, math.nan, self.names(common, metric)
        )

    def _widest(self, name: str, metric: str) -> tuple[str, Gap] | None:
        """The highest group minus the lowest, over the classes that all groups have.

        The range of the groups' deviations from their own values, replicate by replicate, bounds
        how far two groups can lie apart by chance, whichever two these are (as Tukey's range test
        does for means). Its 95 % quantile makes the interval; how often it reaches the range that
        was found is the p value. Groups of unknown values take no part.
        """
        keys = [
            (name, group, True)
            for group in self.groupings[name].groups
            if (name, group, True) in self.masks and UNKNOWN not in group.split(", ")
        ]
        keys = [key for key in keys if not self.usable(key, metric)]
        common, keys = self._common(keys, metric)
        if len(keys) < 2:
            return None
        values = np.stack([self.values(key, metric, common, softened=True) for key in keys])
        now, drawn = values[:, 0], values[:, 1:]
        if np.isnan(now).any():
            return None
        highest, lowest = int(now.argmax()), int(now.argmin())
        width = float(now[highest] - now[lowest])
        deviations = drawn - now[:, None]
        spread = deviations.max(axis=0) - deviations.min(axis=0)
        usable = spread[~np.isnan(spread)]
        low = high = p = math.nan
        if len(usable) and len(usable) >= 0.95 * len(spread):
            reach = float(np.quantile(usable, 0.95))
            low, high = max(0.0, width - reach), width + reach
            p = (1 + int((usable >= width).sum())) / (len(usable) + 1)
        mask = np.any([self.masks[key] for key in keys], axis=0)
        sizes = self.estimate(np.array([width]), metric, mask)
        each = Estimate(width, low, high, sizes.n, sizes.groups)
        gap = Gap(each, p, math.nan, self.names(common, metric), keys[lowest][1])
        return keys[highest][1], gap

    def _common(self, keys: Sequence[MaskKey], metric: str) -> tuple[Mask, list[MaskKey]]:
        """The classes that groups share, without those groups that leave them no class to share.

        The group with the fewest classes goes first, until a class is in all that are left.
        """
        left = list(keys)
        while left:
            common = np.all([self.present[key] for key in left], axis=0)
            if first_word(metric) not in MEANS or self.over(common, metric).any():
                return common, left
            counts = [int(self.over(self.present[key], metric).sum()) for key in left]
            left.pop(int(np.argmin(counts)))
        return np.zeros(len(self.scored.classes), dtype=bool), []


def _adjusted(gaps: Mapping[Key, Gap], metrics: Sequence[str]) -> dict[Key, Gap]:
    found: dict[Key, float] = {}
    for metric in metrics:
        found |= holm_by_key({key: gap.p for key, gap in gaps.items() if key[2] == metric})
    return {
        key: Gap(gap.estimate, gap.p, found[key], gap.classes, gap.against)
        for key, gap in gaps.items()
    }


def _adjusted_widest(
    widest: Mapping[tuple[str, str], tuple[str, Gap]], metrics: Sequence[str]
) -> dict[tuple[str, str], tuple[str, Gap]]:
    found: dict[tuple[str, str], float] = {}
    for metric in metrics:
        found |= holm_by_key({key: gap.p for key, (_, gap) in widest.items() if key[1] == metric})
    return {
        key: (group, Gap(gap.estimate, gap.p, found[key], gap.classes, gap.against))
        for key, (group, gap) in widest.items()
    }
