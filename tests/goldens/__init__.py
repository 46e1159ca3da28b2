"""What a model said when it was shipped, in a file of its version's name.

    python -m tests.goldens

writes the file of the model that ``demur.detection.embedded.MODEL`` names, and says what changed
against the one before. Other verdicts are another model, which needs another version.
"""
