#!/usr/bin/env python3
"""The messages of SPRINT, for dialects sprint and sprint-corrected: coppice run --program "python3
FILE".

What it does is what ShayanTalaei/SPRINT@e33d18ab does in
src/agent_orchestration/main_full_trajectory.py (L); "phase" is its word for a turn.
"""
import argparse
import re
import sys

from message_lines import count, serve

RETRIES = 3 # L89, L188
EXECUTION_TOKENS = 2000 # L98
FINAL_CUE = "\n\n<Final_answer>\n" # L192


class Again(Exception):
    pass


def drop(pattern, text):
    return re.sub(pattern, "", text, flags=re.IGNORECASE)


def wrapped(tag, text):
    return f"<{tag}>\n{text.strip()}\n</{tag}>"


def tagged_plan(plan, phase, last):
    """The plan with its own tags alone (L33-59). None of them: again, and in the end a guess."""
    plan = plan.replace("<think>", "").replace("</think>", "")
    if "<Final_answer>" in plan or "</Final_answer>" in plan:
        return wrapped("Final_answer", drop(r"</?Final_answer.*?>", plan))
    if re.search(r"</?Plan_\d+>", plan):
        return wrapped(f"Plan_{phase}", drop(r"</?Plan_.*?>", plan))
    if not last:
        raise Again("no valid planner tag")
    plan = drop(r"</?Execution.*?>", plan)
    return wrapped("Final_answer" if "\\boxed" in plan else f"Plan_{phase}", plan)


def numbered(plan, phase):
    """Its prompts, numbered in the order of their opening tags (L61-70)."""
    plan = re.sub(r"<prompt.*?>", "<prompt>", plan, flags=re.IGNORECASE)
    plan = re.sub(r"</prompt.*?>", "</prompt>", plan, flags=re.IGNORECASE)
    number = 0
    while "<prompt>" in plan:
        number += 1
        for slash in ("", "/"):
            plan = plan.replace(f"<{slash}prompt>", f"<{slash}prompt_{phase}.{number}>", 1)
    return plan.strip()


def without_prompts(text):
    """L29-31."""
    return re.sub(r"<prompt.*?>.*?</prompt.*?>", "", text, flags=re.DOTALL).strip()


def renumbered(part, phase, number):
    """L124-127."""
    return re.sub(r"(</?prompt_)\d+\.\d+>", rf"\g<1>{phase}.{number}>", part)


def executors_of(plan, phase):
    """(name, the plan as its executor sees it), one a prompt: earlier prompts are gone, its own is
    the first, later ones follow (L157-183)."""
    if not re.search(r"<prompt.*?>", plan):
        return []
    body = re.sub(r"</?Plan_\d+>", "", plan).strip()
    parts = re.split(r"<stop>", re.sub(r"(</prompt.*?>)", r"\1<stop>", body))
    parts = [part.strip() for part in parts if part not in ("", " ")]
    executors = []
    for i, part in enumerate(parts):
        name = re.search(r"<prompt_(\d+\.\d+)>", part)
        if not name:
            continue
        seen = [without_prompts(earlier) for earlier in parts[:i]]
        seen += [renumbered(later, phase, k + 1) for k, later in enumerate(parts[i:])]
        executors.append((name.group(1), "\n\n".join(seen)))
    return executors


def is_final(plan):
    """L209."""
    return bool(re.search(r"<Final_answer.*?>", plan) or
                ("**Final Answer" in plan and "\\boxed" in plan))


class Sprint:
    def __init__(self, options):
        self.phases = options.max_phases
        self.plan_tokens = options.planner_output_token_limit
        self.corrected = options.corrected

    def past_of(self, question):
        """The trajectory before this phase, and the phase; in the last one a cue was given that is
        no part of it (L191-194)."""
        phase, past = question["turn"] + 1, question["text"]
        return phase, past.removesuffix(FINAL_CUE) if phase == self.phases else past

    def plan_of(self, question, phase):
        said = question["said"]
        return f"<Final_answer>\n{said}" if phase == self.phases else said

    def tagged(self, question, phase):
        last = question["attempt"] == RETRIES - 1
        return numbered(tagged_plan(self.plan_of(question, phase), phase, last), phase)

    def after(self, past, phase, current):
        """L224-225, and the next phase's cue."""
        text = past + f"{current.strip()}\n</Execution_{phase}>\n\n"
        return {"text": text + (FINAL_CUE if phase + 1 == self.phases else "")}

    def fork(self, question):
        phase, past = self.past_of(question)
        last = question["attempt"] == RETRIES - 1
        if not last and count(self.plan_of(question, phase)) > self.plan_tokens: # L200-202
            raise Again("planner output too long")
        plan = self.tagged(question, phase)
        if is_final(plan):
            return {"text": f"{past}{plan}\n</think>", "end": True} # L210
        executors = executors_of(plan, phase)
        if not executors: # L217
            return self.after(past, phase, f"{plan}\n\n<Execution_{phase}>\nNo prompt to execute.")
        return {"children": [{"prompt": f"{past}<Plan_{phase}>\n{seen}\n</Plan_{phase}>\n\n"
                                        f"<Execution_{phase}>\n<execution_{phase}.1>\n"} # L91
                             for _, seen in executors]}

    def path(self, question):
        """L95-100."""
        path = question["path"]
        text = path["text"]
        if re.search(r"<prompt.*?>", text, re.DOTALL):
            text = without_prompts(text)
        if path["attempt"] < RETRIES - 1 and count(text) > EXECUTION_TOKENS:
            raise Again("executor output too long")
        return {} if text == path["text"] else {"text": text}

    def join(self, question):
        """L219-225; an execution that is empty is None there, which has no tags (L114-119, L77)."""
        phase, past = self.past_of(question)
        plan = self.tagged(question, phase)
        current = f"{plan}\n\n<Execution_{phase}>\n"
        for (name, _), child in zip(executors_of(plan, phase), question["children"]):
            text = child["text"]
            if not text and not self.corrected:
                return {"refuse": f"AttributeError: execution {name} is empty"}
            text = text.strip().replace("<think>", "").replace("</think>", "")
            text = drop(r"</?execution.*?>", text)
            current += wrapped(f"execution_{name}", text) + "\n\n"
        return self.after(past, phase, current)


def main():
    parser = argparse.ArgumentParser(description="the messages of SPRINT")
    parser.add_argument("--max_phases", type=int, default=10) # L306
    parser.add_argument("--planner_output_token_limit", type=int, default=1000) # L301
    parser.add_argument("--corrected", action="store_true",
                        help="an empty execution is an empty text")
    sprint = Sprint(parser.parse_args())

    def guarded(answer):
        def ask(question):
            try:
                return answer(question)
            except Again as reason:
                print(f"sprint_rewrite: turn {question['turn']}: {reason}", file=sys.stderr)
                return {"again": True}
        return ask

    serve({"fork": guarded(sprint.fork), "path": guarded(sprint.path),
           "join": guarded(sprint.join)})


if __name__ == "__main__":
    main()
