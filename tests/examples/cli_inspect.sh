# SPDX-License-Identifier: Apache-2.0
# What inspect prints and refuses.
. "${0%/*}/cli_common.sh"

run 0 "$inspect"
says '^preset emoji: 128 x 128 pixels' && says 'mid_block.attentions.0 ' && says '^whole model: '
total=$(sed -n 's/^whole model: \([0-9,]*\) parameters.*/\1/p' out | tr -d ,)
run 0 "$inspect" --preset tiny
says '^preset tiny: 16 x 32 pixels'
run 0 "$inspect" --preset emoji --csv
says '^part,name,kind,'
[ "$(sed 's/"[^"]*"//' out | awk -F, 'NR > 1 { n += $8 } END { print n }')" = "$total" ] || fail "expected rows that sum to $total parameters"

run 0 "$inspect" --preset full
says '^preset full: 512 x 512 pixels' && says ' 391,726,152 ' && says ' 184,736,514,048 '
run 0 "$inspect" --preset full --svg full.svg
[ ! -s out ] || fail "expected no output beside the drawing"
[ "$(grep -c '<title>.*attentions' full.svg)" -eq 6 ] && grep -q '391,726,152 parameters' full.svg || fail "expected six transformer stacks in the drawing"
[ "$(tail -n 1 full.svg)" = '</svg>' ] || fail "expected a whole drawing"
refused 1 'nowhere' "$inspect" --svg nowhere/full.svg
refused 2 '--svg' "$inspect" --svg full.svg "$model"

# Every preset's JSON: the same fields for all, and as many tensors as a file of it has.
run 0 "$inspect" --help
for preset in $(sed -n 's/.*--json PRESET:{\([^}]*\)}.*/\1/p' out | tr , ' '); do
  run 0 "$inspect" --json "$preset"
  says "^  \"preset\": \"$preset\",$" && says '"mobilediffusion.configuration": "' && says '"unet.conv_out.weight": \[.*, .*, 3, 3\]'
  fields=$(sed '/^  "metadata"/,$d' out | grep -o '"[a-z_0-9]*":' | grep -c .)
  [ "$fields" -eq "${fields_before:=$fields}" ] || fail "expected $fields_before fields"
  "$files" json out > number || fail "expected JSON"
  if [ "$preset" = emoji ]; then [ "$(cat number)" = "$("$inspect" "$model" --csv | sed 1d | wc -l)" ] || fail "expected the tensors of the file"; fi
done
[ "$preset" = ssd_1b ] || fail "expected the presets from emoji to ssd_1b"
refused 2 '--json' "$inspect" --json huge
refused 2 '--json' "$inspect" --json tiny --csv
refused 2 '--json' "$inspect" --json tiny "$model"
run 0 "$inspect" "$model"
says '"training.note": "random"' && says '^unet.down_blocks ' && says 'F16$' && says 'preset emoji; every tensor fits'
run 0 "$inspect" "$model" --csv
says '^"unet.conv_in.weight",F16,'
[ "$(awk -F, 'NR > 1 { n += $4 } END { print n }' out)" = "$total" ] || fail "expected $total elements in the file"

run 0 "$quantize" "$model" --out int8.safetensors
says 'int8.safetensors: 17' && exists int8.safetensors
run 0 "$inspect" int8.safetensors
says '^unet.down_blocks .*F16 F32 I8$' && says 'preset emoji; every tensor fits'
refused 1 'int8-twice.safetensors": cannot open' "$quantize" int8-twice.safetensors --out nothing.safetensors
refused 2 '--out' "$quantize" "$model"

mkdir -p folder/unet folder/text_encoder empty
cp "$model" folder/unet/diffusion_pytorch_model.safetensors
cp "$model" folder/text_encoder/model.fp16.safetensors
run 0 "$inspect" folder
says '^unet: "folder/unet/diffusion_pytorch_model.safetensors"' && says '^text_encoder: '
says '^kind: a folder of the diffusers layout' && says '^networks: unet, text_encoder$' && says '^storage: F16$' && says '^preset: none'
run 0 "$inspect" folder --csv
says '^"text_encoder.unet.conv_in.weight",F16,'
refused 1 'expected unet, vae or text_encoder in it' "$inspect" empty
refused 1 'expected unet, vae or text_encoder in it' "$inspect" empty --csv

# file <tensor> <rows> <columns>: a file of one tensor of zeros.
file() {
  header="{\"$1\":{\"dtype\":\"F8_E4M3\",\"shape\":[$2,$3],\"data_offsets\":[0,$(($2 * $3))]}}"
  length=$(printf '%03o' ${#header})
  { printf "\\$length\0\0\0\0\0\0\0%s" "$header" && head -c $(($2 * $3)) /dev/zero; } > one.safetensors
}
file model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight 8 1024
run 0 "$inspect" one.safetensors
says '^kind: a UNet alone: Stable Diffusion 2.x' && says '^storage: F8_E4M3$' && says '^preset: none' && says '^the UNet puts out: .* does not say which'
file lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight 4 768
run 0 "$inspect" one.safetensors
says "^kind: adapters without a model: LoRA in kohya's names, rank 4, for Stable Diffusion 1.x$"

"$files" wrong configuration "$model" other.safetensors
run 0 "$inspect" other.safetensors
says '^configuration: none of the presets'
"$files" wrong renamed "$model" other.safetensors
run 1 "$inspect" other.safetensors
[ "$(wc -l < err)" -eq 1 ] && grep -q 'inspect: file .*unet.conv_in.bias.*missing' err || fail "expected the tensor's name"
"$files" wrong data-cut "$model" other.safetensors
refused 1 'leave the file' "$inspect" other.safetensors
refused 1 'cannot open' "$inspect" nothing.safetensors
refused 2 '--preset' "$inspect" --preset huge
refused 2 '--preset' "$inspect" --preset tiny "$model"
refused 2 '--nothing' "$inspect" --nothing
finish
