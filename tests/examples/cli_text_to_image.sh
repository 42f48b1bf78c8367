# SPDX-License-Identifier: Apache-2.0
# text_to_image with a toy of Stable Diffusion's structure: files and folders, options, what it writes and what it refuses.
. "${0%/*}/cli_common.sh"
program=${generate%/*}/text_to_image_toy
"$files" sd_toy toy || fail "cannot write the model"
same() { "$files" same "$1" "$2" || fail "expected the same picture: $3"; }  # whatever texts are beside it
differ() { "$files" same "$1" "$2" && fail "expected another picture: $3"; return 0; }
draw() { run 0 "$program" --preset sd_toy --model toy.safetensors "$@"; }

draw "a lighthouse at dusk"
exists output.png
says '^output\.png  seed 42  [0-9.]* s$'
[ "$("$files" size output.png)" = 64x64 ] || fail "size of the picture"
"$files" text output.png > text
grep -q '^parameters=a lighthouse at dusk$' text || fail "expected the prompt in the picture"
grep -q '^Steps: 4, Sampler: ddim, CFG scale: 5, Seed: 42, Size: 64x64, Model: toy, RNG: CPU, Version: mobilediffusion ' text ||
  fail "expected the parameters in the picture"

# The same request is the same bytes, from one file or a folder, which needs a tokenizer of its own.
draw --prompt "a lighthouse at dusk" --quiet --threads 1 -o again.png
silent
cmp -s output.png again.png || fail "expected the same bytes again, on one thread"
mkdir toy/tokenizer
cp "${0%/*}/../../examples/clip/merges.txt" toy/tokenizer
run 0 "$program" --preset sd_toy --model toy "a lighthouse at dusk" -o folder.png
cmp -s output.png folder.png || fail "expected the same bytes from a folder"
for option in "--seed 1" "--steps 2" "--cfg-scale 1" "--sampling-method euler_a" "--sampling-method euler --scheduler karras" \
  "--rng own" "--type int8" "--vae toy.taesd.safetensors" "--negative-prompt ships" "-W 64 -H 32"; do
  draw $option "a lighthouse at dusk" -o other.png
  differ output.png other.png "$option"
done
[ "$("$files" size other.png)" = 64x32 ] || fail "size of the picture"
draw --vae toy/vae "a lighthouse at dusk" -q -o same.png
cmp -s output.png same.png || fail "expected the same bytes with its own autoencoder, given"

# Textual inversion: a file by the word that it says, or of a folder by its own name where the prompt has that.
inversion() {  # NAME WIDTH FILE: one vector of zeros
  header="{\"$1\":{\"dtype\":\"F32\",\"shape\":[$2],\"data_offsets\":[0,$(($2 * 4))]}}"
  { printf "\\$(printf %03o ${#header})\\0\\0\\0\\0\\0\\0\\0" && printf %s "$header" && head -c $(($2 * 4)) /dev/zero; } > "$3"
}
mkdir words
inversion '<moss>' 32 moss.safetensors
inversion emb_params 32 'words/<moss>.safetensors'
inversion emb_params 32 words/other.safetensors
draw "a lighthouse of <moss>" -q -o without.png
draw "a lighthouse of <moss>" --embedding moss.safetensors -q -o with.png
differ with.png without.png "a textual inversion"
draw "a lighthouse of <moss>" --embd-dir words -q -o folder.png
cmp -s with.png folder.png || fail "expected the same vector by the name of its file"
draw "a lighthouse at dusk" --embd-dir words -q -o plain.png
cmp -s output.png plain.png || fail "expected the same picture where no prompt names a textual inversion"

# Words that weigh more, prompts of several chunks, skipped layers of the text encoder.
draw "a (lighthouse:1.5) at dusk" -q -o weighted.png
differ output.png weighted.png "weights"
draw "a (lighthouse:1.5) at dusk" -q --plain-prompt -o brackets.png
differ weighted.png brackets.png "brackets as text"
draw "(a lighthouse at dusk:1.0)" -q -o same.png
same output.png same.png "the weight 1"
draw "a lighthouse of (<moss>:1.5)" --embedding moss.safetensors -q -o weighted.png
differ with.png weighted.png "a weighted textual inversion"
long=$(printf 'a cat and a dog, %.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18)  # 108 tokens
draw "$long" -q -o long.png
silent
draw "$long a ship" -q -o longer.png
silent
differ long.png longer.png "behind the first 75 tokens"
draw "$long$long$long" -q -o cut.png
grep -q 'prompt: too long for the model, which does not read "a dog , a cat' err || fail "expected what is not read"
draw "a lighthouse at dusk" --clip-skip 1 -q -o same.png
same output.png same.png "no layer is skipped"
draw "a lighthouse at dusk" --clip-skip 2 -q -o skipped.png
differ output.png skipped.png "a skipped layer"
"$files" text skipped.png | grep -q ', Clip skip: 2, ' || fail "expected the skipped layer in the picture"

# Several pictures, alone and in a batch; from a picture, and a part of one.
draw "a lighthouse at dusk" -b 3 -o several.png
exists several-1.png several-2.png several-3.png
cmp -s several-1.png output.png || fail "expected the first of several to be the picture of its seed"
draw "a lighthouse at dusk" -b 3 --batch 3 -o batch.png
for i in 1 2 3; do cmp -s several-$i.png batch-$i.png || fail "expected the same bytes from a batch"; done
draw "a ship" --init-img output.png --strength 0.5 -o changed.png
"$files" text changed.png | grep -q 'Denoising strength: 0.5' || fail "expected the strength in the picture"
draw "a ship" --init-img output.png --mask output.png -o painted.png
exists painted.png
draw "a lighthouse at dusk" -q -o - > /dev/null && "$program" --preset sd_toy --model toy.safetensors "a lighthouse at dusk" -q -o - > piped.png
cmp -s output.png piped.png || fail "expected the same bytes through a pipe"

refuse() { wanted=$1 words=$2; shift 2; refused "$wanted" "$words" "$program" --quiet "$@"; }
refuse 1 'missing.safetensors' --preset sd_toy --model missing.safetensors "a cat"
refuse 1 'expected a model of the Stable Diffusion family, found' --model toy.taesd.safetensors "a cat"
refuse 1 'expected a model of the Stable Diffusion family, found' --model toy.safetensors "a cat"
refuse 1 'size: expected one of 64x64, 64x32, found 96x64' --preset sd_toy --model toy.safetensors -W 96 -H 64 "a cat"
refuse 1 'expected its folder, --lora-model-dir' --preset sd_toy --model toy.safetensors "a cat <lora:fluffy:0.5>"
refuse 1 'expected <lora:NAME:WEIGHT>, found' --preset sd_toy --model toy.safetensors --lora-model-dir . "a cat <lora:fluffy:x>"
refuse 1 'fluffy.safetensors' --preset sd_toy --model toy.safetensors --lora-model-dir . "a cat <lora:fluffy>"
inversion emb_params 48 wide.safetensors
refuse 1 'expected vectors of 32 numbers, found 48' --preset sd_toy --model toy.safetensors --embedding wide.safetensors "a cat"
refuse 1 'folder "nowhere": cannot read' --preset sd_toy --model toy.safetensors --embd-dir nowhere "a cat"
refuse 1 'sampler ddim: has no option karras' --preset sd_toy --model toy.safetensors --sampling-method ddim --scheduler karras "a cat"
refuse 2 '--mask: expected --init-img as well' --preset sd_toy --model toy.safetensors --mask output.png "a cat"
refuse 2 '--scheduler: expected --sampling-method as well' --preset sd_toy --model toy.safetensors --scheduler karras "a cat"
refuse 2 '--model is required' "a cat"
refuse 2 'prompt is required' --model toy.safetensors
refuse 2 '--preset' --preset sd15 --model toy.safetensors "a cat"
refuse 2 '--type' --type q2_k --model toy.safetensors "a cat"
refuse 1 'clip-skip: expected 1 to 2 for this model, found 3' --preset sd_toy --model toy.safetensors --clip-skip 3 "a cat"
refuse 1 'negative prompt: expected a number for a weight, found "1.2.3"' --preset sd_toy --model toy.safetensors -n "(x:1.2.3)" "a cat"
refuse 1 'expected an existing folder "nowhere", found none' --preset sd_toy --model missing.safetensors "a cat" -o nowhere/cat.png
draw --sampling-method euler --scheduler karras "a ship" -q -o karras.png
"$files" text karras.png | grep -q ', Schedule type: Karras,' || fail "expected the schedule in the picture"
finish
