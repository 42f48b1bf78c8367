# SPDX-License-Identifier: Apache-2.0
# Pictures from pictures on the command line, and what the programs beside generate refuse: 2 for wrong arguments, 1 for files.
. "${0%/*}/cli_common.sh"
programs=${generate%/*}
"$generate" --model "$model" --steps 1 -q "a cat" -o cat.png > out 2> err || fail "cannot draw"

# image_to_image: one picture, or a sheet of pairs and strengths.
change() { run 0 "$programs/image_to_image" --model "$model" --steps 2 "$@"; silent; }
change --picture cat.png --prompt "a dog" --out dog.png
[ "$("$files" size dog.png)" = 128x128 ] || fail "size of the picture"
change --picture cat.png --prompt "a dog" --out again.png --strength 0.6 --threads 1
cmp -s dog.png again.png || fail "expected the same bytes again, on one thread, at the default strength"
change --picture cat.png --prompt "a dog" --picture dog.png --prompt "a cat" --strength 0.5 0.9 --out sheet.png
[ "$("$files" size sheet.png)" = 400x268 ] || fail "expected a sheet of 3 x 2 pictures"
run 0 "$programs/image_to_image" --picture cat.png --prompt "a helicopter" --out helicopter.png
grep -q -F -x 'image_to_image: prompt: never seen in training: "helicopter"' err || fail "expected a word on stderr: $command"
edit() { wanted=$1 words=$2; shift 2; refused "$wanted" "$words" "$programs/image_to_image" --model "$model" --out new.png "$@"; }
edit 2 '--picture is required' --prompt "a dog"
edit 2 'expected one for each picture, found 2 for 1' --picture cat.png --prompt "a dog" --prompt "a cat"
for bad in 0 1.1 -1 nan x; do
  edit 2 '--strength: expected a number above 0, at most 1' --picture cat.png --prompt "a dog" --strength "$bad"
done
edit 2 '--steps: expected a whole number' --picture cat.png --prompt "a dog" --steps 0
edit 1 'missing.png' --picture missing.png --prompt "a dog"
edit 2 '--fit: crop not in {cover,contain,stretch}' --picture cat.png --prompt "a dog" --fit crop
# A picture of another size: cut to its middle, or as --fit says; the programs say what they did.
fitted() {
  words=$1 made=$2
  shift 2
  run 0 "$programs/image_to_image" --model "$model" --steps 2 --picture sheet.png --prompt "a dog" --out "$made" "$@"
  [ "$("$files" size "$made")" = 128x128 ] || fail "size of the picture"
  [ "$(wc -l < err)" -eq 1 ] && grep -q -F -e "image_to_image: \"sheet.png\": 400 x 268 pixels, $words" err || fail "expected '$words' on stderr"
}
fitted 'cut to the middle and resized to 128 x 128 (--fit contain or stretch shows all of it)' cover.png
fitted 'with a border and resized to 128 x 128' contain.png --fit contain
fitted 'stretched and resized to 128 x 128' stretch.png --fit stretch
cmp -s cover.png contain.png || cmp -s cover.png stretch.png || cmp -s contain.png stretch.png && fail "expected three pictures"
"$programs/image_to_image" --model "$model" --steps 2 --picture cat.png --prompt "a dog" --out - > piped.png 2> err || fail "cannot write to standard output"
cmp -s dog.png piped.png && [ ! -s err ] || fail "expected the same picture on standard output, and nothing else"

# inpaint: the rest stays byte for byte (the library's tests look); a row of old, kept and new.
run 0 "$programs/inpaint" --model "$model" --steps 2 --picture cat.png --box 64,0,64,128 --prompt "a dog" --out half.png && silent
[ "$("$files" size half.png)" = 128x128 ] || fail "size of the picture"
run 0 "$programs/inpaint" --model "$model" --steps 2 --picture cat.png --box 0,0,9,9 --prompt "a dog" --count 2 --out row.png
[ "$("$files" size row.png)" = 532x136 ] || fail "expected a row of 4 pictures, found $("$files" size row.png)"
paint() { wanted=$1 words=$2; shift 2; refused "$wanted" "$words" "$programs/inpaint" --model "$model" --out new.png "$@"; }
paint 2 'expected a prompt and a mask or box for each, found 1 and 0 for 1' --picture cat.png --prompt "a dog"
for bad in 0,0,0,1 0,0,129,1 128,0,1,1 1,2,3 1,2,3,4,5 x; do
  paint 2 '--box: expected X,Y,WIDTH,HEIGHT inside the picture' --picture cat.png --prompt "a dog" --box "$bad"
done
paint 2 '--strength: expected a number above 0, at most 1' --picture cat.png --prompt "a dog" --box 0,0,9,9 --strength 2
run 0 "$programs/inpaint" --model "$model" --steps 2 --picture sheet.png --mask sheet.png --prompt "a dog" --out masked.png
[ "$("$files" size masked.png)" = 128x128 ] || fail "size of the picture"
paint 1 'mask "cat.png": expected the shape of its picture, 400 x 268 pixels, found 128 x 128' --picture sheet.png --prompt "a dog" --mask cat.png
paint 1 'missing.png' --picture cat.png --prompt "a dog" --mask missing.png

# Programs of the demo's data.
wrong() { program=$1 words=$2; shift 2; [ ! -x "$programs/$program" ] || refused 2 "$words" "$programs/$program" "$@"; }
wrong distill '--out is required'
for bad in 0 -1 many 010x; do wrong distill '--steps: expected a whole number of 1 to 1000000' --out new --steps "$bad"; done
wrong distill '--batch: expected a multiple of --micro-batch' --out new --batch 30
wrong distill '--sampler-share: expected at most 1' --out new --sampler-share 7
wrong distill '--first: expected 4 times a power of two' --out new --first 12
wrong distill '--rate: expected a number of at least 0' --out new --rate nan
wrong lora '--sheet: expected together with --prompt' --pictures new --sheet new.png
wrong lora '--steps: expected a whole number of 1' --pictures new --steps 0
wrong evaluate 'frechet_distance: expected a figure of a list beside it' --model "$model" --figures frechet_distance
finish
