"""One scheme, one file. `mmtool.kinds` is the table of all tokenizers, by kind and scheme."""
