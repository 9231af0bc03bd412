"""Models that make a vector of each text, over the body that language models have, too."""
