"""What the programs for --program share: the lines in and out (runtime/reason/message_program.h)."""
import json
import sys


def _line():
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def _say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def count(text):
    """Tokens of a text, as the model's tokenizer has it."""
    _say({"count": text})
    return _line()["tokens"]


def serve(answers):
    """Answers each question by the function of its event, until there are no more."""
    while (question := _line()) is not None:
        _say(answers[question["event"]](question))
