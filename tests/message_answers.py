"""A program for messages whose answers a test gives: python3 FILE '{"fork0.0": {..}, "join0": {..}}'.

Keys are the event and its turn, and for forks the attempt; paths have "path0.NUMBER.ATTEMPT". In an
answer's texts @ is the parent's text with what it said, % without it, and & the children's.
"""
import json
import sys

answers = json.loads(sys.argv[1])
for line in sys.stdin:
    question = json.loads(line)
    key = f"{question['event']}{question['turn']}"
    if question["event"] == "fork":
        key += f".{question['attempt']}"
    if question["event"] == "path":
        key += f".{question['path']['number']}.{question['path']['attempt']}"
    children = "+".join(child["end"] + ":" + child["text"]
                        for child in question.get("children", []))

    def fill(value):
        if isinstance(value, dict):
            return {k: fill(v) for k, v in value.items()}
        if isinstance(value, list):
            return [fill(v) for v in value]
        if isinstance(value, str):
            return (value.replace("%", "\0").replace("&", "\1")
                    .replace("@", question["text"] + question["said"])
                    .replace("\0", question["text"]).replace("\1", children))
        return value

    print(json.dumps(fill(answers.get(key, {}))), flush=True)
