/* What a dialect says, as a struct; dialect.h tells how it comes from a file and what it means. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "reason/pattern.h"
#include "reason/prune.h"

typedef enum cop_element {
    COP_EL_ROOT, /* <Think>: the reasoning as a whole */
    COP_EL_BLOCK,
    COP_EL_PLAN,
    COP_EL_ITEM,
    COP_EL_PATH,
    COP_EL_JOIN,
    COP_EL_COUNT,
} cop_element;

typedef enum cop_join_rule {
    COP_JOIN_NONE,      /* plain sequential decoding */
    COP_JOIN_REPREFILL, /* concatenate the children's text, prefill it causally (ThreadWeaver) */
    COP_JOIN_STITCH,    /* the children's segments enter the parent's view (Multiverse) */
    COP_JOIN_MESSAGE,   /* children run in contexts of their own; their replies are fed to the
                           parent as new text (APR, arXiv 2504.15466, section 3) */
    COP_JOIN_SHARED,    /* paths see each other's tokens, live (Hogwild!, arXiv 2504.06261) */
    COP_JOIN_ASYNC,     /* the parent goes on and joins one path at a time: cop_async says how */
} cop_join_rule;

typedef enum cop_position_rule {
    COP_POSITIONS_NEXT,            /* ordinary: the next position of the branch's own view */
    COP_POSITIONS_EQUAL_START_MAX, /* all paths start where the parent stands; after the join: 1 +
                                      max */
    COP_POSITIONS_BLOCK_RELATIVE,  /* shared: each part of a view stands where that view has it */
    COP_POSITIONS_DISJOINT,        /* not run here */
    COP_POSITIONS_PREDICTED_GAP, /* async: the parent goes on behind a gap that its tag predicts */
} cop_position_rule;

typedef enum cop_reuse { COP_REUSE_NONE, COP_REUSE_LONGEST_PREFIX } cop_reuse; /* reprefill only */

typedef enum cop_path_end { /* what a branch's own end of text, or its limit, does */
                            COP_PATH_END_JOINS, /* the branch counts as finished; its closing tag is
                                                   added */
                            COP_PATH_END_ENDS_RUN, /* the whole problem ends (ThreadWeaver's
                                                      orchestrators) */
                            COP_PATH_END_ENDS_RUN_AFTER_MERGE, /* its siblings are awaited and
                                                                  joined, then the problem ends */
} cop_path_end;

typedef enum cop_refusal {                         /* what a fork that may not be taken does */
                           COP_REFUSAL_DECODES_ON, /* the plan is text; decoding goes on */
                           COP_REFUSAL_ENDS_RUN,
                           COP_REFUSAL_ENDS_BRANCH, /* in a path: the path ends, and is joined */
} cop_refusal;

typedef enum cop_trigger { /* what makes the parent fork */
                           COP_TRIGGER_PLAN_CLOSE,
                           COP_TRIGGER_BLOCK_OPEN,  /* no plan: `paths` of them */
                           COP_TRIGGER_END_OF_TEXT, /* of a call, where `last_line` stands; then a
                                                       program is asked (message_program.h) */
                           COP_TRIGGER_PROMPT_END,  /* at once, one path for each worker */
} cop_trigger;

typedef enum cop_paths_from {
    COP_PATHS_OUTLINES,
    COP_PATHS_FIXED,
    COP_PATHS_MESSAGE
} cop_paths_from;

typedef enum cop_item_search {                  /* where items_pattern looks */
                               COP_SEARCH_PLAN, /* from the branch's last opening tag of a plan */
                               COP_SEARCH_TURN, /* the same in its text since the last join; all of
                                                   that where it holds no plan */
                               COP_SEARCH_TURN_PLAN, /* nowhere where it holds no plan */
} cop_item_search;

typedef enum cop_duplicates { /* of numbers that items_pattern finds */
                              COP_DUPLICATES_KEEP,
                              COP_DUPLICATES_DROP,
                              COP_DUPLICATES_LAST_WINS, /* all run; the text of the one that ends
                                                           last stands for each of them */
} cop_duplicates;

typedef enum cop_charge {                        /* what max_tokens counts */
                          COP_CHARGE_GENERATED,  /* generated tokens of the sample's branches */
                          COP_CHARGE_ALL_TOKENS, /* and those that they were given */
                          COP_CHARGE_POSITION,   /* positions behind the prompt, of each branch */
                          COP_CHARGE_OWN_TIMES_SIBLINGS, /* what a branch began with, and its own
                                                            tokens times the paths of its block */
                          COP_CHARGE_EACH_BRANCH,        /* what each branch generates */
} cop_charge;

typedef enum cop_stage {
    COP_STAGE_MAIN,
    COP_STAGE_PATH,
    COP_STAGE_JOIN,
    COP_STAGE_COUNT
} cop_stage;

typedef struct cop_stage_sampling { /* instead of the caller's; negative: the caller's */
    float temperature, top_p;
    int64_t top_k;
    float penalty; /* of what the branch said since it was opened or last joined; 0: none */
} cop_stage_sampling;

enum { COP_STOP_TEXTS_MAX = 8 };
enum { COP_REPLY_TAGS_MAX = 4, COP_TRIGGER_TEXTS_MAX = 4, COP_SINGLE_TOKENS_MAX = 8 };
enum { COP_AFTER_TAG_MAX = 4, COP_SHARED_WORKERS_MAX = 16, COP_SHARED_FORBIDDEN_MAX = 16 };

typedef struct cop_tag {
    const char *text; /* "" where the dialect has none */
    uint32_t bytes;
} cop_tag;

typedef enum cop_insert {                     /* what a join of the kind `async` gives the parent */
                          COP_INSERT_MESSAGE, /* what the path returns, as new text */
                          COP_INSERT_REPREFILL, /* its text, computed again */
                          COP_INSERT_STITCH,    /* its keys and values */
} cop_insert;

/* COP_JOIN_ASYNC: tags are found in the parent's text as expressions, whose groups `n`, `item` and
 * `tokens` are a path's id, its task and its predicted length. */
typedef struct cop_async {
    cop_pattern *fork, *join; /* join NULL: there is none */
    cop_tag sync;             /* waits for all */
    bool spawn;               /* paths begin with an empty view, else with the parent's */
    cop_insert insert;
    uint32_t capacity;      /* paths that run at once; 0: any number */
    bool queues;            /* a path beyond it begins later; else its fork is refused */
    bool error_ends_run;    /* an id that is unknown at a join, or repeated at a fork */
    const char *error_text; /* given then; NULL: nothing */
    const char *no_reply;   /* message: of a path that returned nothing */
    bool end_awaits;        /* at the parent's end of text: all paths, else they are cancelled */
    uint32_t gap_unit;      /* positions that one of `tokens` stands for */
} cop_async;

typedef struct cop_stop_text { /* ends a call where it is said, and is cut away */
    cop_tag text;
    const char *by; /* stands in its place, and the call goes on; NULL: it ends */
} cop_stop_text;

typedef struct cop_shared_worker {
    const char *begin;      /* what it is given first */
    const char *step_begin; /* and behind the end of each step, {n}: the step's number, from 2 */
} cop_shared_worker;

/* Paths that see each other: what a view holds between its parts, and, where the dialect has
 * workers instead of tags, how their steps move to the common history. */
typedef struct cop_shared_rules {
    const char *others_header, *own_header; /* "": none */
    cop_shared_worker workers[COP_SHARED_WORKERS_MAX];
    uint32_t n_workers;
    /* A step ends with a token that holds `step_token`, if the step's text up to there matches. */
    cop_tag step_token;
    cop_pattern *step_end;
    cop_pattern *finished; /* a step that matches as it ends is the run's last; NULL: none is */
    const char *forbidden[COP_SHARED_FORBIDDEN_MAX]; /* never sampled, where they are one token */
    uint32_t n_forbidden;
    bool forbids_ends; /* nor an end of text, nor the token that begins one */
    uint32_t inject_tokens;
    const char *inject; /* behind step_begin, once the workers took in so many since the last */
    const char *joined_tail; /* behind each worker's open step in the joined text */
    uint32_t finish_tokens;  /* what follows the join has at most so many; 0: the run's limit */
} cop_shared_rules;

typedef struct cop_dialect {
    const char *name,
        *source; /* source: the paper or repository path that the data is taken from */
    cop_join_rule join;
    cop_position_rule positions;
    cop_reuse reuse;
    cop_path_end path_end;
    cop_tag open[COP_EL_COUNT], close[COP_EL_COUNT];
    /* What the model is given, around the problem's text: "<apr><k{k}>{problem}"; "{problem}" when
     * the file names none. {k}: the number of paths asked for, `ask_paths` or the caller's. */
    const char *prompt;
    uint32_t ask_paths;
    const char *branch_prompt; /* "\n<Path>\n{n}:", "<thr>{item}" */
    const char *join_prompt;   /* "\n<Conclusion>\n"; may be "" */
    /* message: what a child's own context begins with ("<sub>{problem}"), and its reply: its text
     * from the first of the `reply_from` texts to before its path's closing tag; `reply_otherwise`
     * when it holds none of them, or was cancelled. */
    const char *spawn_prompt;
    cop_tag reply_from[COP_REPLY_TAGS_MAX];
    uint32_t n_reply_from;
    const char *reply_otherwise;
    cop_tag success;      /* a path that says this has found what was looked for; "": cannot tell */
    cop_tag answer_after; /* the answer: what follows the last of these in the run's last turn */
    cop_refusal refused;
    uint32_t
        max_path_tokens; /* generated by one path; then it ends as path_end says. 0: no limit */
    bool nested;         /* a path may hold blocks */
    uint32_t max_paths, max_depth, max_blocks; /* 0: no limit */

    /* Zero and NULL below are the ordinary things: what is above is a whole dialect. */
    cop_trigger trigger;
    /* The closing tags of plans and paths act wherever they stand, as stop tokens do: a plan's in a
     * path only if `nested`. */
    bool trigger_anywhere;
    bool trigger_on_end;                      /* its end of text too, if it lists items */
    cop_tag plan_ends[COP_TRIGGER_TEXTS_MAX]; /* texts that close a plan as well */
    uint32_t n_plan_ends;
    cop_paths_from paths_from;
    uint32_t paths;             /* FIXED: so many */
    cop_pattern *items_pattern; /* its first group is an item's number, as text; NULL: by tags */
    cop_item_search item_search;
    cop_duplicates duplicates;
    cop_refusal on_zero_items, on_too_many; /* instead of `refused`, where set: */
    bool zero_set, many_set;
    bool join_outside; /* the conclusion stands behind the block */
    /* Tokens that the original samples after a tag: the first `keep` stay, the rest is dropped. */
    uint32_t plan_drop, path_keep, path_drop;
    bool stray_path_ends_run; /* a path's closing tag outside every path */
    const char *after_fork;   /* given to the parent before its paths open; NULL: nothing */
    const char *joined_first, *joined_other; /* headers in the joined text; NULL: as decoded */
    const char *path_close;      /* what ends a path that did not say so; NULL: its closing tag */
    const char *join_prompt_cut; /* instead of join_prompt where a path was cut */
    bool context_text;           /* every call encodes the whole text again */
    bool end_closes_join; /* an end of text inside the conclusion closes it, and decoding goes on */
    bool last_block_ends_run; /* when max_blocks of them are concluded */
    bool limit_cuts_after; /* a path runs on past max_path_tokens, and what is more is cut away */
    uint32_t max_steps;    /* stretches of one thread, and blocks; then the run ends. 0: no limit */
    cop_charge charge, fork_charge; /* fork_charge: what fork_margin looks at */
    bool charge_each_step; /* only before a stretch or a block begins; the text is cut after it */
    bool last_dropped;     /* the token with which a path's budget ends is no part of it */
    uint32_t margin, fork_margin; /* tokens: max_tokens ends so much sooner; no fork in the last */
    cop_stage_sampling sampling[COP_STAGE_COUNT];
    bool stage_set[COP_STAGE_COUNT];
    bool penalty_shared; /* the paths' penalty is one value of all of an answer's branches */
    cop_join_policy join_policy; /* where the caller has none */
    double quorum_ratio;         /* of the block's paths, rounded up; 0: join_policy's */
    cop_tag single_tokens[COP_SINGLE_TOKENS_MAX]; /* each must be one token of the model */
    uint32_t n_single_tokens;
    cop_async async;
    cop_shared_rules shared;
    /* A program of the user's makes all messages: it is asked when a call of the parent ends whose
     * last line holds one of `last_line` (none: always), at each join, and with `asks_paths` when a
     * path ends. A call is what one thread says between two texts that it is given. */
    bool program, asks_paths;
    const char *recipe; /* a command that makes them, for readers; never run */
    cop_tag last_line[COP_TRIGGER_TEXTS_MAX];
    uint32_t n_last_line;
    cop_stop_text stop_texts[COP_STOP_TEXTS_MAX];
    uint32_t n_stop_texts;
    uint32_t max_turn_tokens; /* generated by one call; then it ends. 0: no limit */
} cop_dialect;
