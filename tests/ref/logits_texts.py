"""The prompts of logits.jsonl: (tokens to keep, text). Written for this project."""

CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"

STORY = """The lighthouse keeper wrote down the weather every evening, even when there was nothing to say.
On the ninth of October she wrote: wind from the west, two ships, one of them slow. The slow one was
carrying timber, and its captain, who had never been this far north, was looking for a light that the
chart placed two miles further along the coast. She watched it turn, and turn again, and then she did
something that the book of rules did not allow. She covered the lamp for a count of ten, uncovered it
for a count of three, and covered it again. The captain understood. By morning the ship lay in the
harbour, and a boy was sent up the path with a basket of oranges and a letter that nobody could read.
"""

ARGUMENT = """A forest is not a collection of trees, in the same way that a city is not a collection of houses.
What makes it a forest is what passes between them: water, shade, fungi, birds, and the slow work of
rot. When a tree is cut to its stump, the roots do not know it. They go on feeding a trunk that is no
longer there, and what they feed becomes a ring of young stems, each of them a claim on the same store
of sugar. The forester waits a few years and takes most of them away. What is left grows straight.
"""

PROOF = """Claim. For every integer n >= 1, the sum 1 + 3 + 5 + ... + (2n - 1) equals n^2.
Proof. We argue by induction. For n = 1 the sum has the single term 1, and 1^2 = 1. Suppose that the
claim holds for n. Then 1 + 3 + ... + (2n - 1) + (2n + 1) = n^2 + 2n + 1 = (n + 1)^2, which is the claim
for n + 1. Alternatively, draw a square of n by n stones; the next odd number is exactly the number of
stones that is needed for one more row, one more column, and the corner between them.
"""

CODE = """#include <stdio.h>

/* Counts the lines of a file; a last line without a newline counts too. */
static long count_lines(FILE *file) {
    long lines = 0;
    int last = '\\n';
    for (int c; (c = getc(file)) != EOF; last = c) {
        if (c == '\\n')
            lines++;
    }
    return last == '\\n' ? lines : lines + 1;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file) {
            fprintf(stderr, "cannot open %s\\n", argv[i]);
            return 2;
        }
        printf("%8ld %s\\n", count_lines(file), argv[i]);
        fclose(file);
    }
    return 0;
}
"""

PARALLEL = """<Think>
We need the number of ways to place two rooks on a 4 by 4 board so that neither attacks the other.
<Parallel>
<Goal>
<Outline>
1: Count ordered placements and divide by two.
</Outline>
<Outline>
2: Choose rows and columns first.
</Outline>
</Goal>
<Path>
1: The first rook has 16 squares. It attacks 3 in its row and 3 in its column, so the second has 16 - 7 = 9.
That is 16 * 9 = 144 ordered pairs, so 144 / 2 = 72.
</Path>
<Path>
2: Choose 2 of 4 rows in 6 ways and 2 of 4 columns in 6 ways; the rooks can be matched in 2 ways: 6 * 6 * 2 = 72.
</Path>
<Conclusion>
Both ways give 72.
</Conclusion>
</Parallel>
The answer is 72.
</Think>
"""

PROMPTS = [
    (5, "The capital of France is the city"),
    (9, CHAT.format("Hello, who are you?")),
    (17, "Water boils at 100 degrees Celsius at sea level, and it freezes at 0 degrees."),
    (33, CHAT.format("Name three fruits that are red. Then say which of them you would put into a pie, "
                     "and why the other two would not do.")),
    (64, STORY),
    (65, PROOF),
    (100, CODE),
    (128, ARGUMENT + STORY),
    (201, CODE),
    (257, PARALLEL + PROOF),
    (400, CHAT.format("Summarise this.\n\n" + ARGUMENT + STORY + ARGUMENT) + STORY),
    (600, STORY + "\n" + ARGUMENT + "\n" + PROOF + "\n" + PARALLEL + CODE),
]
