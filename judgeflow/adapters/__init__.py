"""Other people's formats and trainers: what reads the ones, what their authors measure with them, and what rewards the others."""
