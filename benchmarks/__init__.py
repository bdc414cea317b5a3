"""Speed, size and memory beside the peers: ``python -m benchmarks`` or ``make bench``."""

OURS = "numcodecs-crackle"
REFERENCE = "crackle-codec"  # what ratios are over
