"""Continued pretraining in a recipe: what beside a base is refused, and how its general text is weighed against its own."""

from collections.abc import Collection, Sequence

from model.config.training_config import MixturePhase
from tasks.corpus.replay import ReplayConfig
from tasks.finetune.base_model import BaseConfig
from tasks.pretrain.config import PretrainConfig
from tasks.promotion.champion import ChampionConfig
from tasks.shards.shards import GENERAL, OWN, ShardsConfig

ITS_OWN = {  # section that a base makes void -> the fix
    "model": "the shape is that of the base: leave the section out",
    "tokenizer": "the base brings its own: leave the section out; adapt.add_tokens adds tokens of the corpus to it",
}
OF_A_BASE = ("adapt", "replay")


def one_start(champion: ChampionConfig | None, base: BaseConfig | None) -> ChampionConfig | BaseConfig | None:
    """The one that is given; ValueError for both."""
    if champion is not None and base is not None:
        raise ValueError("a training goes on from champion or from base: give one of the two")
    return champion or base


def check_beside(start: ChampionConfig | BaseConfig | None, given: Collection[str]) -> None:
    """ValueError for sections, among those `given`, that do not go with a base, or with none."""
    if start is None:
        idle = [name for name in OF_A_BASE if name in given]
        if idle:
            raise ValueError(f"{idle[0]}: it is of a base that goes on learning, and there is none; name champion or base, or leave it out")
        return
    for name, fix in ITS_OWN.items():
        if name in given:
            raise ValueError(f"{name}: {fix}")


def check_replay(replay: ReplayConfig, shards: ShardsConfig, pretrain: PretrainConfig, sources: Sequence[str]) -> None:
    """ValueError for replay that does not fit the recipe's sources, or another way to weigh text."""
    if pretrain.word_vectors is not None:
        raise ValueError("pretrain.word_vectors: the base has embeddings; leave the key out")
    unknown = [name for name in replay.sources if name not in sources]
    if unknown:
        raise ValueError(f"replay.sources: {unknown[0]!r} is none of ingest.sources: {', '.join(sources)}")
    if set(replay.sources) >= set(sources):
        raise ValueError("replay.sources: all sources are general text, so nothing is left to learn; leave one of ingest.sources out of it")
    if shards.general != replay.sources:
        raise ValueError("shards.general is not what replay.sources says; set replay.sources alone")
    if not replay.share:
        if replay.sources:
            raise ValueError(
                "replay.share is 0, so replay.sources would be learned as any other text; raise the one or leave the other out"
            )
        return
    if pretrain.mixture or shards.group_by != "none":
        raise ValueError(
            f"replay.share {replay.share:g} weighs general text against own text, and so would "
            f"{'pretrain.mixture' if pretrain.mixture else 'shards.group_by'}; leave that out, or set replay.share to 0"
        )


def with_replay(pretrain: PretrainConfig, share: float) -> PretrainConfig:
    """With the mixture that draws general text for exactly this share of the rows."""
    if not share:
        return pretrain
    phase = MixturePhase(0, {OWN: round(1 - share, 6), GENERAL: share})
    return pretrain.model_copy(update={"mixture": (phase,)})
