"""The commands of `fst`, a file each: their arguments, their bars, what they print. They hold no logic of their own."""
