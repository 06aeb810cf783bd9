"""One paper, one file. `METHODS` is the table of all methods; a new one adds its import and its name."""

from mmtool.methods.base import Method
from mmtool.methods.causal import Causal
from mmtool.methods.cm3 import CM3
from mmtool.methods.commutative import Commutative
from mmtool.methods.contrastive import Contrastive
from mmtool.methods.loretta import LoReTTa
from mmtool.methods.m3ae import M3AE
from mmtool.methods.masked import Masked

METHODS: dict[str, type[Method]] = {method.name: method for method in (Causal, Masked, Contrastive, CM3, Commutative, LoReTTa, M3AE)}
