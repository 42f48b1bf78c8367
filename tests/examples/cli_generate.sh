# SPDX-License-Identifier: Apache-2.0
# What generate does where all is well.
. "${0%/*}/cli_common.sh"
draw() { run 0 "$generate" --model "$model" --steps 1 "$@"; }

run 0 "$generate" --help
says '--guidance' && says '--count' && says 'default: what the model was made for'
run 0 "$generate" --version
says '^generate [0-9]'

draw "A red  Apple!"
exists a-red-apple.png
says '^a-red-apple\.png  seed 0  [0-9.]* s$'
[ ! -s err ] || fail "expected no progress bar where stderr is a file"
[ "$("$files" size a-red-apple.png)" = 128x128 ] || fail "size of the picture"
has a-red-apple.png "prompt=A red  Apple!"
has a-red-apple.png seed=0
has a-red-apple.png steps=1
has a-red-apple.png guidance=2.5
has a-red-apple.png "model=${model##*/}"
"$files" text a-red-apple.png | grep -q '^negative=' && fail "expected no negative prompt"

# Nothing is overwritten but what -o names; the same request gives the same bytes.
cp a-red-apple.png first.png
draw "a red apple" --seed 3
exists a-red-apple-2.png
cmp -s first.png a-red-apple.png || fail "expected the old picture to stay"
cmp -s first.png a-red-apple-2.png && fail "expected another picture"
draw "A red  Apple!" -o a-red-apple-2.png --threads 1
cmp -s first.png a-red-apple-2.png || fail "expected the same bytes again, on one thread"
draw "a red apple" --seed 18446744073709551615 --guidance 0.5 --negative "a blue cat" --output named.png
has named.png seed=18446744073709551615
has named.png guidance=0.5
has named.png "negative=a blue cat"

# Capital letters; standard output and pipes, where the line about the picture goes to stderr or stays apart.
draw "A red  Apple!" -o Apple.PNG
cmp -s first.png Apple.PNG || fail "expected the same bytes under a name in capital letters"
for name in - /dev/stdout; do
  "$generate" --model "$model" --steps 1 "A red  Apple!" -o "$name" > piped.png 2> err || fail "cannot write to $name"
  cmp -s first.png piped.png || fail "expected the same bytes through $name"
  grep -q '^.*  seed 0  [0-9.]* s$' err || fail "expected the line about the picture on stderr"
  "$generate" --model "$model" --steps 1 -q "A red  Apple!" -o "$name" 2> err | cat > piped.png
  cmp -s first.png piped.png && [ ! -s err ] || fail "expected the same bytes through a pipe as $name, and silence"
done
mkfifo pipe
cat pipe > piped.png &
draw "A red  Apple!" -o pipe
wait $!
cmp -s first.png piped.png && says '^pipe  seed 0' || fail "expected the same bytes through a named pipe"
rm pipe piped.png

# Silence, and odd names.
draw --quiet "a cat" -o quiet.png
silent
draw -q -- "--a cat"
exists a-cat.png
draw -q "…/../?" && exists "….png"
draw -q "!?" && exists picture.png
run 0 "$generate" --model "$model" -q "a cat a cat a cat a cat" --steps 2 --guidance 1
has a-cat-a-cat-a-cat-a-cat.png guidance=1

# A prompt that is too long is cut, in words; a batch goes on.
mkdir long
many='a cat and a cat and a cat and a cat and a cat and a cat and a cat and a cat and a cat and a cat and a cat and a big red dog'
draw "a cat" "$many" -o long
exists long/a-cat-0.png
[ "$(wc -l < err)" -eq 1 ] && grep -q '^generate: argument 2: prompt: [0-9]* tokens, the model reads 26; not read: ".*dog"$' err || fail "expected what is not read: $command"
[ "$(ls long | wc -l)" -eq 3 ] || fail "expected 2 pictures and a sheet"

# Several pictures: slug and seed, and a sheet with a row for each prompt.
mkdir folder few sheet
draw "a red apple" "a blue cat" --count 3 --seed 5 -o folder
for seed in 5 6 7; do exists folder/a-red-apple-$seed.png folder/a-blue-cat-$seed.png; done
says '^folder/sheet\.png  6 pictures$'
[ "$("$files" size folder/sheet.png)" = 400x268 ] || fail "expected a sheet of 3 x 2 pictures"
[ "$(ls folder | wc -l)" -eq 7 ] || fail "expected 6 pictures and a sheet"
[ "$(wc -l < out)" -eq 7 ] || fail "expected a line for each file"
draw "a cat" --count 2 -o few -q
exists few/a-cat-0.png few/a-cat-1.png few/a-cat-sheet.png
silent
draw "a cat" -o few
exists few/a-cat.png
[ "$(ls few | wc -l)" -eq 4 ] || fail "expected no sheet of one picture"

# A file of prompts: byte order mark, DOS line ends, blank lines, no end of the last line.
printf '\357\273\277a red apple\r\n\r\n  \na blue cat' > prompts.txt
draw --prompts prompts.txt "a cat" -o sheet
exists sheet/a-cat-0.png sheet/a-red-apple-0.png sheet/a-blue-cat-0.png sheet/sheet.png
has sheet/a-red-apple-0.png "prompt=a red apple"
[ "$(ls sheet | wc -l)" -eq 4 ] || fail "expected 3 pictures and a sheet"

# Prompts from standard input.
mkdir piped
printf 'a red apple\r\n\na blue cat' | "$generate" --model "$model" --steps 1 --prompts - -o piped > out 2> err || fail "expected prompts from standard input"
exists piped/a-red-apple-0.png piped/a-blue-cat-0.png piped/sheet.png

# Words that the shipped models were never shown are named; what they know is listed.
strange() {
  run 0 "$generate" "$1" -o strange.png
  [ "$(wc -l < err)" -eq 1 ] && grep -q -F -x -e "generate: prompt: never seen $2" err || fail "expected '$2' on stderr: $command"
}
strange "🦊" 'in training: "🦊"'
strange "東京" 'in training: "東京"'
strange "a helicopter" 'in training: "helicopter"'
strange "a photo of a cat" 'in training: "photo"'
strange "a foxx" 'in training: "foxx" (fox?)'
strange "fox" 'at the beginning: "fox"'
strange "a red fox on a light blue background" 'in this order: "red fox"'
run 0 "$generate" -q "a helicopter" -o strange.png && silent
run 0 "$generate" "A fox, on a light blue background!" -o fox.png
[ ! -s err ] || fail "expected nothing on stderr: $command"
run 0 "$generate" --words
says '^a fox / foxes$' && says '^a red apple / red apples$' && says ' background '
[ "$(wc -l < out)" -gt 280 ] || fail "expected a line for each thing"

# Without --model: the shipped one-step model, and the base model for what only that can do.
shipped() { model_file=$1; shift; run 0 "$generate" -q "a red apple" -o shipped.png "$@"; has shipped.png "model=$model_file"; }
shipped emoji_one_step.safetensors && has shipped.png steps=1 && has shipped.png guidance=1
shipped emoji_one_step.safetensors --steps 4 && has shipped.png steps=4
shipped emoji.safetensors --steps 5 && has shipped.png guidance=2.5
shipped emoji.safetensors --steps 1 --guidance 2
shipped emoji_one_step.safetensors --guidance 0 && has shipped.png guidance=0
shipped emoji.safetensors --negative "a blue cat" --steps 2
finish
