class RotaryTable:
    nbytes = 0
