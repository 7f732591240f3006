#!/usr/bin/env bash
# METEOR 1.5 does not choose the nearer of two equal matches.
#
# Package:  pycocoevalcap 1.2, whose jar is METEOR 1.5 (needs Java). Seen on 2026-11-28 with OpenJDK 17.
# Expected: among alignments with equally many matches and chunks, the one with the least distance between the matched
#           words (Denkowski and Lavie 2014, "Meteor Universal", section 2: resolution by the sum of absolute distances
#           between match start indices). Guess written before the run: "zzqa" matches the first word of "zzqa zzqa",
#           which is 0 words away, and of "zzqa zzqa zzqa" the first, too.
# Seen:     it matches the second word, both times. A candidate's distance is counted for the candidates that come after
#           it at the same place, not for itself, so the first and nearest one wins only where nothing else is in reach.
#           A plural makes a related surprise: "zebras" against "zebra" scores 0, for the two words match by their stem
#           and as synonyms, and a single match found in two ways is dropped as ambiguous; an invented "blorps" against
#           "blorp", which match by their stem only, scores 0.6.
# Here:     captioner's METEOR chooses as the jar does, since published scores are the jar's
#           (captioner/metrics/meteor/alignment.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
command -v java > /dev/null || { echo "This finding needs a Java runtime." >&2; exit 2; }
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps pycocoevalcap==1.2
jar=$("$folder/venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")/pycocoevalcap/meteor/meteor-1.5.jar
cd "$folder"
printf '%s\n' "zzqa" "zzqa" "zebras" "blorps" > hypotheses
printf '%s\n' "zzqa zzqa" "zzqa zzqa zzqa" "zebra" "blorp" > references
java -Xmx2G -jar "$jar" hypotheses references -l en -norm -writeAlignments -q -f found > /dev/null 2>&1
# Of each alignment: its score, then "reference word:length hypothesis word:length module".
seen=$(awk -F'\t+' '/^Alignment/ { print "score " $6 } /^[0-9]+:/ { print $1, $2, $3 }' found-align.out)
expected="score 0.2162162162162162
1:1 0:1 0
score 0.14814814814814814
1:1 0:1 0
score 0.0
score 0.6
0:1 0:1 1"
printf 'seen:\n%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
