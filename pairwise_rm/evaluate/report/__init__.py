"""The HTML report of an evaluation: one self-contained page. It decides how figures are shown and computes none."""
