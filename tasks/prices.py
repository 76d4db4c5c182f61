"""Prices: what an hour of a machine and of a GPU costs, and what a run comes to."""

from dataclasses import dataclass

from pydantic import Field

from tasks.settings import Section


@dataclass(frozen=True)
class Cost:
    """What something came to."""

    amount: float
    currency: str
    rate: str  # in words


class Prices(Section):
    """The recipe's section `prices`. Where neither hour has a price, no cost is told."""

    currency: str = Field(default="USD", min_length=1, max_length=8, description="Unit of both prices, as shown")
    machine_hour: float | None = Field(
        default=None,
        ge=0,
        description="Of the machine that runs the recipe, by the clock from beginning to end; with its GPUs, if it is rented so",
    )
    gpu_hour: float | None = Field(default=None, ge=0, description="Of each GPU, while a training holds it: where GPUs are paid beside it")

    @property
    def are_known(self) -> bool:
        """Whether there is any."""
        return self.machine_hour is not None or self.gpu_hour is not None

    def cost(self, wall_seconds: float, gpu_seconds: float) -> float | None:
        """In the currency; `gpu_seconds`: of all GPUs together. None where there is no price."""
        if not self.are_known:
            return None
        return (wall_seconds * (self.machine_hour or 0.0) + gpu_seconds * (self.gpu_hour or 0.0)) / 3600

    def spent(self, wall_seconds: float, gpu_seconds: float) -> Cost | None:
        """The same with what it was reckoned at."""
        amount = self.cost(wall_seconds, gpu_seconds)
        return None if amount is None else Cost(amount, self.currency, self.told())

    def told(self) -> str:
        """`2.5 USD per GPU hour`."""
        parts = [("machine hour", self.machine_hour), ("GPU hour", self.gpu_hour)]
        return ", ".join(f"{price:g} {self.currency} per {what}" for what, price in parts if price is not None)
