"""Strings that are difficult to tokenize. `python -m tests.text.ptb_cases` asks Java and writes `ptb_cases.json`.

Each of the tokenizer's rules decides somewhere in them (a test makes sure), so a new rule needs a new case.
"""

from __future__ import annotations

import json
from pathlib import Path

from captioner.text.java_ptb import java_ptb_tokenize_all

EXPECTED = Path(__file__).with_suffix(".json")

CASES = r"""
A man isn't riding a horse, he's standing on it.
The dog's toy, the dogs' toys, and McDonald's.
Don't! I can't, won't and cannot; CANNOT she?
We're gonna wanna gotta gimme lemme go. Gonna-be stars
'Tis the season; 'twas the night. Y'all come, y'know
rock 'n' roll rock 'n roll rock’n’roll
the '90s, the 1990's, the 1990s, in '90, in ‘90s
five o'clock at O'Neill's, d'Avignon, l'eau, ma'am, D'oh
C'mon, s'mores for ol' Dunkin' somethin' li'l ev'ry nor'easter nat'l
Hawai'i and Xi'an, 'em 'til 'till 'cause e'er
cont'd. cont'd O'o c# F# C++
the man's n't n’t won’t ca‘nt 's 'll
black-and-white T-shirt, 3-wheeler, 20-something, mid-1990s
and/or his/her man/woman/child black-and-white/red\/blue 50/50
AT&T at&t R&B. B&W, A+B, AT&amp;T S&P-500 s&amp;p-500 S&Ls
Mr. and Mrs. Smith, Dr. Who vs. St. John Jr. Ave. Blvd.
Washington D.C. in the U.S. and the U.S.A. The end, T.V., t.v. R.V.,
U.S.-U.K. talks, non-U.S. cars, EU-U.S. law, a.k.a. joe
He is at platform K. The train is I. A man. a. b
sign reads K.
Plan B. plan C.D.s pro- anti- Cap'n c'est -LRB- -rsb-
bus no. 5, No. 12, no.7, fig. 3 and figs. 4. no. the pp. 3 Bldg. 7 op. 2
e.g. i.e. etc. et al. Inc. Co. Ltd. Corp. Ptys. pte. Sys. Univ. sq. ft.
Jan. Feb. Sept. Mon. Tues. Ariz. Mass. mass. Pa. pa. Wash. wash. Ill. ill.
Natl. Mfg. mfg. Miss. miss. Sgt. Capt. Ph.D. Ed.D. Ph. Esq. est.1990
bottles.The glass end of it.And! What?yes yahoo!answers
3,000.50 $5 $5.00 US$5 €5 £3 5¢ ¥100 ¤ ₠ 10% #1 #5
1/2 1 1/2 1-1/2 23 3/4 ½ 1½ ¼ ¾ ⅓ ⅔ ⅛ 1⁄2
12/25/2013 2013-12-25 1-2-03 10:30 10:30am 5:30 p.m. 1,5 .5 -5 +3.2
m² H₂O x³ ⁻¹ ²³ 30°C 5'6" 2x4 4x4 1st 2nd 3rd 50-50
(555) 123-4567 555-1234 1-800-555-1234 +44 20 7946 0958 555.123.4567 ++1.555.123.4567
http://www.example.com/a?b=c https://x.org/. www.foo.co.uk foo.com google.com/maps, x1.com
me@x.com <me@x.com> &lt;me@x.com&gt; @handle @_x9 #tag #tag2 a@ @ @@ ##
index.html a.jpg foo.mp3, a.c x.h. file.txt! report.pdf
<b>bold</b> <br/> <a href="x y">link</a> <a b='c d' e> <!-- note --> <?xml v?> < b > a<b
&amp; &lt; &gt; &quot; &apos; &nbsp; &mdash; &MD; &aacute; caf&eacute; &odq; &#39;
"quoted" 'quoted' “quoted” ‘quoted’ „low‟ ‚low‛ «duck» ‹duck› ``latex'' `` ' ''
“” ‘’ ”“ ’’ '' ` `` "" "$5 "a
(round) [square] {curly} (( )) <<duck>> >> <
- -- --- ---- ----- ------ – — ― &ndash; a - b a--b
. .. ... .... ..... ...... . . . . . . . … a…b
! !! ? ?! !!! , ; : ., .; ,. ;) wow!, street.; St.; St., 3-wheeler.; O-'; A&T.; a_b.,
* ** *** \* \*\*\* \ / // | ~ ^ % & + = == _ __ ___
:) :-) :( ;-D =P :'( >:( :] x) <3 8) :D. XD
^_^ x_x -_- (^_^) (^.^) (^-^) (>_<) '_' ~.[^x=:)<>]
a soft­ly hyphen­ated word ­ ­­ co­op-er­ate 3­000
é café naïve Zoë Ａｂｃ １２３ ﬁn 日本語 한국어 Привет ΩΜΈΓΑΣ אבג ١٢٣ ١٫٥ हिन्दी
é ñ naïve ̈ a​b a‍b ﻿ aￂb
😀 a😀b 👍🏽 🇺🇸 ☃ ★ ♥ → × ÷ ° © ® ™ • · ¿ ¡ § ¶ 𝐀𝐁
İstanbul ıi ſs K 5Å
www.a-b.de/x the summer of '90 was ++12.555.123.4567 ’sx
tab	separated  double   space
""".strip("\n").split("\n")
CASES += [
    "a\u00a0b\u2003c\u3000d 1\u00a01/2 1\u00a0000",
    "null\x00in bell\x07in esc\x1bin del\x7fin",
    "windows \x91single\x92 \x93double\x94 a\x96b \x97 \x85 \x80 5",
    "line\rfeed\x0bforms\x0cand\u2028separators\u2029end",
    "dr.\x85The x\u202fy z\u205fw \u1680",
    "",
    " ",
    ".",
    " ... !",
]

if __name__ == "__main__":
    tokens = [java_ptb_tokenize_all([case, "A cat"])[0] for case in CASES]
    EXPECTED.write_text(json.dumps(dict(zip(CASES, tokens, strict=True)), indent=1), encoding="utf-8")
