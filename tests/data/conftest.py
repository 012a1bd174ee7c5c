collect_ignore_glob = ["third_party/*"]  # these run in an environment of their own: tests/test_outside.py
