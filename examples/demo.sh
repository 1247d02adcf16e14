#!/usr/bin/env bash
# The main job on the bundled help centre. Run by `make demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
twinrank="${BIN:-.venv/bin}/twinrank"
data=examples/help-centre
run=runs/demo/even

show() {  # print a command as one would type it, then run it
  printf '\n$ twinrank'
  for word in "$@"; do [[ $word == *[[:space:]]* ]] && printf ' "%s"' "$word" || printf ' %s' "$word"; done
  printf '\n'
  "$twinrank" "$@"
}

show compare "$data" --recipes bm25,zero-shot,residual,even --seeds 3 --out runs/demo
show train "$data" --recipe even --seed 0 --out "$run"
show rank "$run" -k 3 --why "it wont let me in again"
show rank "$run" -k 3 "User: hello, my clients say the page shows nothing they could book
Agent: Hello! Do they see an error?
User: no, just grey days all month, though I'm free most afternoons"
printf '\nThe ranker is saved in %s.\n' "$run"
