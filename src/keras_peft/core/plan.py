"""The plan of an adapted model: its trainable parameters, where they are, and their share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PlannedSite:
    """One row of a plan: a site and its number of trainable parameters.

    Attributes:
        path: Path of the layer.
        role: Role of the layer, or None if unknown.
        block: Index of its block, or None.
        parameters: Number of trainable parameters.
    """

    path: str
    role: str | None
    block: int | None
    parameters: int


@dataclass(frozen=True)
class Plan:
    """The trainable parameters of an adapted model, where they are, and their share of all.

    Attributes:
        method: Names of the methods, joined with " + ".
        sites: The sites with trainable parameters.
        shared_parameters: Trainable parameters that sites share.
        head_parameters: Trainable parameters of a head on top of the base.
        total_parameters: All parameters, including those of adapter and head.
        blocks: Number of blocks in the base.
        trunk_blocks: Number of blocks below the first trained layer.
    """

    method: str
    sites: tuple[PlannedSite, ...]
    shared_parameters: int
    head_parameters: int
    total_parameters: int
    blocks: int
    trunk_blocks: int

    @property
    def trainable_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(site.parameters for site in self.sites) + self.shared_parameters + self.head_parameters

    def __str__(self) -> str:
        width = max([len(site.path) for site in self.sites] + [4])
        lines = [f"{self.method} trains {self.share()}"]
        lines += [
            f"  {site.path:<{width}}  {site.role or '':<16}  {site.parameters:>12,}" for site in self.sites
        ]
        for name, count in (("shared", self.shared_parameters), ("head", self.head_parameters)):
            if count:
                lines.append(f"  {name:<{width}}  {'':<16}  {count:>12,}")
        if self.blocks:
            lines.append(f"  frozen below: {self.trunk_blocks} of {self.blocks} blocks")
        return "\n".join(lines)

    def share(self) -> str:
        """Returns the trainable share, such as "172,932 of 22,860,036 parameters (0.76%)"."""
        share = self.trainable_parameters / self.total_parameters
        return f"{self.trainable_parameters:,} of {self.total_parameters:,} parameters ({share:.2%})"
