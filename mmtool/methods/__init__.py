"""One paper, one file. `METHODS` is the table of all methods; a new one adds one line."""

from mmtool.methods.base import Method
from mmtool.methods.causal import Causal
from mmtool.methods.cm3 import CM3
from mmtool.methods.loretta import LoReTTa

METHODS: dict[str, type[Method]] = {"causal": Causal, "cm3": CM3, "loretta": LoReTTa}
