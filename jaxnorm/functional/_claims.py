"""The claims that many members share."""

SAMPLED = frozenset({"mask", "weights", "shards", "offset", "range", "scale"})
CENTRED = SAMPLED | {"shift"}
