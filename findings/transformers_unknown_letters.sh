#!/usr/bin/env bash
# transformers 5 leaves out a letter that its SentencePiece model does not know, or reads it as the end of the caption.
#
# Packages: transformers 5.24.0, tokenizers 0.23.3, sentencepiece 0.2.3; beside them transformers 4.57.6. Seen on 2026-11-29.
# Expected: a tokenizer that is made from a SentencePiece file gives the ids of that file, and "a token that is not in the
#           vocabulary … is set to be this token [unk_token] instead" (documentation of T5Tokenizer and LlamaTokenizer).
#           Guess written before the run: equal ids for plain captions, other ids where there are several spaces.
# Seen:     SentencePiece's defaults leave the rarest letters of the captions unknown (character_coverage is 0.9995), and give
#           <unk>, <s> and </s> the ids 0, 1 and 2. Version 5 does not read these ids from the file any more. T5Tokenizer takes
#           id 2 for the unknown, as in Google's file, while its unk_token_id says 0: "a boy pedals quickly" gets </s>, the
#           token that ends captions, in its middle. With byte_fallback the letter, which has an id, is </s> as well.
#           LlamaTokenizer makes its BPE without an unknown token: the letter is gone, the rest of the word joins
#           the space ("uickly", "ueen"), and no <unk> says so. Nothing is said when the file is read. Captions of known
#           letters are right, so it does not show. CodeLlamaTokenizer and the class for any file, TokenizersBackend, are
#           right, and 4.57.6 gives SentencePiece's ids with all of them. Not known to the tracker on that date.
# Here:     captioner reads its SentencePiece models with sentencepiece alone, and trains them with every letter of the
#           captions (captioner/text/bpe.py). For transformers 5, load such a file with TokenizersBackend.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    transformers==5.24.0 tokenizers==0.23.3 sentencepiece==0.2.3 protobuf==7.36.2 huggingface-hub==2.4.0 numpy==2.4.6
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$folder/before" \
    transformers==4.57.6 tokenizers==0.22.2 huggingface-hub==0.36.2 requests==2.34.2 urllib3==2.8.0 idna==3.20 \
    charset-normalizer==3.5.3 certifi==2026.10.19.post1
cat > "$folder/program.py" << 'PROGRAM'
import io
import itertools
import logging
import pathlib
import sys

import sentencepiece
import transformers

logging.disable(logging.WARNING)
folder = pathlib.Path(sys.argv[1])
who = ["a man", "a woman", "a boy", "a girl", "two men", "a dog", "people", "children", "a child", "a player"]
what = ["stands", "sits", "runs", "walks", "plays", "looks", "is waiting", "is riding a horse", "holds a ball", "rests"]
where = ["on the beach", "in the snow", "near a tree", "at night", "on a street", "by the water", "in a park", "on grass"]
how = ["alone", "with a friend", "and smiles", "in the sun", "under a blue sky", "in red shoes", "before a crowd"]
rare = ["a boy pedals quickly", "a queen is waiting", "a zebra eats", "two men on jet skis", "a jazz band", "a square tent"]
captions = [" ".join(words) for words in itertools.product(who, what, where, how)] + rare
google = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}

print("transformers", transformers.__version__)
for name, file, kind, options in [
    ("LlamaTokenizer", "tokenizer.model", "bpe", {}),
    ("LlamaTokenizer", "tokenizer.model", "bpe", {"byte_fallback": True}),
    ("CodeLlamaTokenizer", "tokenizer.model", "bpe", {}),
    ("T5Tokenizer", "spiece.model", "unigram", {}),
    ("T5Tokenizer", "spiece.model", "unigram", {"byte_fallback": True}),
    ("T5Tokenizer", "spiece.model", "unigram", google),
    ("TokenizersBackend", "tokenizer.model", "unigram", {}),
]:
    if not hasattr(transformers, name):
        continue
    model, place = io.BytesIO(), folder / name
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(captions), model_writer=model, model_type=kind,
                                             vocab_size=300, num_threads=1, minloglevel=2, hard_vocab_limit=False, **options)
    place.mkdir(exist_ok=True)
    (place / file).write_bytes(model.getvalue())
    original = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    tokenizer = getattr(transformers, name).from_pretrained(place)
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in captions]
    differ = sum(one != original.encode(text) for one, text in zip(ids, captions))
    print(f"{name} {' '.join(options)}: other ids than SentencePiece's for {differ} of {len(captions)}")
    if differ:
        print(f"  unknown: {original.unk_id()} in the file, {tokenizer.unk_token_id} says unk_token_id")
        for one, text in list(zip(ids, captions))[-6:-4]:
            print("  ", text, "->", tokenizer.decode(one))
PROGRAM
mkdir "$folder/5" "$folder/4"
seen=$("$folder/venv/bin/python" -W ignore "$folder/program.py" "$folder/5"
    PYTHONPATH="$folder/before" "$folder/venv/bin/python" -W ignore "$folder/program.py" "$folder/4")
expected="transformers 5.24.0
LlamaTokenizer : other ids than SentencePiece's for 6 of 5606
  unknown: 0 in the file, 0 says unk_token_id
   a boy pedals quickly -> a boy pedals uickly
   a queen is waiting -> a ueen is waiting
LlamaTokenizer byte_fallback: other ids than SentencePiece's for 0 of 5606
CodeLlamaTokenizer : other ids than SentencePiece's for 0 of 5606
T5Tokenizer : other ids than SentencePiece's for 6 of 5606
  unknown: 0 in the file, 0 says unk_token_id
   a boy pedals quickly -> a boy pedals </s>uickly
   a queen is waiting -> a </s>ueen is waiting
T5Tokenizer byte_fallback: other ids than SentencePiece's for 6 of 5606
  unknown: 0 in the file, 0 says unk_token_id
   a boy pedals quickly -> a boy pedals </s>uickly
   a queen is waiting -> a </s>ueen is waiting
T5Tokenizer pad_id eos_id unk_id bos_id: other ids than SentencePiece's for 0 of 5606
TokenizersBackend : other ids than SentencePiece's for 0 of 5606
transformers 4.57.6
LlamaTokenizer : other ids than SentencePiece's for 0 of 5606
LlamaTokenizer byte_fallback: other ids than SentencePiece's for 0 of 5606
CodeLlamaTokenizer : other ids than SentencePiece's for 0 of 5606
T5Tokenizer : other ids than SentencePiece's for 0 of 5606
T5Tokenizer byte_fallback: other ids than SentencePiece's for 0 of 5606
T5Tokenizer pad_id eos_id unk_id bos_id: other ids than SentencePiece's for 0 of 5606"
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'this differs from what was seen before:\n%s\n' "$expected"; exit 1; }
