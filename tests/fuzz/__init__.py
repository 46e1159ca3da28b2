"""Fuzzing: `targets` take any bytes. Hypothesis feeds them in the tests, atheris by the command

python -m tests.fuzz {policy,wire,text} [-max_total_time=120] [libFuzzer's other options]
"""
