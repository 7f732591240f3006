"""What makes a captioner bad without a word: `python -m captioner doctor`. docs/doctor.md explains each check.

`patient` gathers what the checks look at, `of_model`, `of_units`, `of_input` and `of_data` are the checks, `examine`
runs them all, `findings` is what they say.
"""
