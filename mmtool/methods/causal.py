"""Causal modelling (GPT): next-token prediction, modalities always in the order of the data set.

Radford et al. 2018. The order is fixed, so the model learns p(later | earlier) only; this is the first baseline of LoReTTa.
"""

from dataclasses import dataclass

from mmtool.methods.next_token import NextToken


@dataclass(frozen=True)
class CausalOptions:
    """Causal modelling has no settings of its own."""


class Causal(NextToken):
    name = "causal"
    Options = CausalOptions
