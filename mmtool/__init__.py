"""mmtool: tokenize, pretrain on and impute incomplete multimodal data."""

import os

from mmtool.common.threads import affinity_cpus, set_thread_defaults

__version__ = "0.1.0"

set_thread_defaults(os.environ, affinity_cpus())
