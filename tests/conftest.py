"""Keep TensorFlow's native log out of the test output, here and in every child process."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
