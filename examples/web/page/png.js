// SPDX-License-Identifier: Apache-2.0
// PNG files with texts, under the keywords that the program `generate` writes: tEXt for ASCII, iTXt for the rest (PNG specification,
// 11.3.4).

const table = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; ++k) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = table[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

function chunk(keyword, text) {
  const ascii = /^[\x20-\x7e]*$/.test(text);
  const body = new TextEncoder().encode((ascii ? `tEXt${keyword}\0` : `iTXt${keyword}\0\0\0\0\0`) + text);
  const out = new Uint8Array(body.length + 8);
  const view = new DataView(out.buffer);
  view.setUint32(0, body.length - 4);
  out.set(body, 4);
  view.setUint32(body.length + 4, crc32(body));
  return out;
}

// texts: { keyword: text }
export async function pngOf(canvas, texts) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
  if (!blob) throw new Error('the browser could not write a PNG file');
  const png = new Uint8Array(await blob.arrayBuffer());
  const header = 8 + 25;  // the signature and IHDR
  const chunks = Object.entries(texts).map(([keyword, text]) => chunk(keyword, text));
  return new Blob([png.subarray(0, header), ...chunks, png.subarray(header)], { type: 'image/png' });
}
