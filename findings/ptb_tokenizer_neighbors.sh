#!/usr/bin/env bash
# In pycocoevalcap, the tokens of a caption depend on the captions beside it, and so the scores on the order of the images.
#
# Package:  pycocoevalcap 1.2, whose tokenizer is that of Stanford CoreNLP 3.4.1 (needs Java). Seen on 2026-11-29 with
#           OpenJDK 17.
# Expected: each caption is tokenized by itself. All are sent as one text, one a line, and the option -preserveLines keeps
#           the lines (documentation of PTBTokenizer.main: "Produce space-separated tokens, except when the original had a
#           line break, not one-token-per-line"), so a candidate that is its image's reference, letter by letter, scores
#           best. Guess written before the run of 2: that, for any caption without "\n", which pycocoevalcap replaces by a
#           space. 1 was met when captioner's tokenizer was compared with this one; its effect on a score was not guessed.
# Seen:     1. "platform K." ends in "k" where the next caption begins with "The" (or "A", …: the start of a sentence), and
#              in "k." where it begins with "two"; "plate no." keeps its dot before "1 man". A candidate's next caption is
#              the next image's, a reference's is the same image's next reference, so a candidate equal to its reference
#              has other tokens. The same images and captions have CIDEr 4.81 in one order and 5.36 in another. Three
#              references of COCO val2017 end in a single letter and a dot.
#           2. A caption with U+2028 (or \r, \v, \f, U+2029) becomes two lines, and zip() gives every later caption to the
#              next image, without a message: one such character takes CIDEr from 10 to 4.01 here. That the number of lines
#              changes is known (https://github.com/stanfordnlp/CoreNLP/issues/619, and aac-metrics stops at it:
#              https://github.com/Labbeti/aac-metrics/issues/6); pycocoevalcap does not look at it.
# Here:     captioner's tokenizer reads each caption alone, followed by the beginning that most captions have, and takes
#           those characters for spaces (captioner/text/ptb.py; docs/tokenizer.md has the differences).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
command -v java > /dev/null || { echo "This finding needs a Java runtime." >&2; exit 2; }
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps pycocoevalcap==1.2 numpy==2.4.6
seen=$("$folder/venv/bin/python" - 2> /dev/null << 'PROGRAM'
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer


def tokens(captions_of_images):
    """As COCOEvalCap.evaluate does: the tokens of each image's captions, in the order of the images."""
    return PTBTokenizer().tokenize({i: [{"caption": text} for text in each] for i, each in enumerate(captions_of_images)})


def cider(images, candidates):
    score, of_images = Cider().compute_score(tokens(images), tokens([[candidate] for candidate in candidates]))
    return round(float(score), 2), [round(float(one), 2) for one in of_images]


print("1.", [tokens([[caption], [following]])[0][0] for caption, following in (
    ("a train at platform K.", "The men sit"), ("a train at platform K.", "two men sit"),
    ("a man with plate no.", "1 man sits"), ("a man with plate no.", "two men sit"))])
train, men = ["a train at platform K.", "two trains in a hall"], ["The men sit on a bench", "two men on a wooden bench"]
dogs = ["a dog runs on the beach", "two dogs run through water"]
print("   the train before the men", *cider([train, men, dogs], [train[0], men[0], dogs[0]]))
print("   the men before the train", *cider([men, train, dogs], [men[0], train[0], dogs[0]]))

images = [["a red bus in a street"], ["two men play chess outside"], ["a cat sleeps on the sofa"],
          ["people wait for their train"], ["some cows stand near water"], ["the plane lands at night"]]
candidates = [captions[0] for captions in images]
print("2. as they are   ", *cider(images, candidates))
candidates[2] = "a cat sleeps\u2028on the sofa"
print("   with one U+2028", *cider(images, candidates))
PROGRAM
)
expected="1. ['a train at platform k', 'a train at platform k.', 'a man with plate no.', 'a man with plate no']
   the train before the men 4.81 [3.33, 6.08, 5.0]
   the men before the train 5.36 [6.08, 5.0, 5.0]
2. as they are    10.0 [10.0, 10.0, 10.0, 10.0, 10.0, 10.0]
   with one U+2028 4.01 [10.0, 10.0, 4.06, 0.0, 0.0, 0.0]"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
