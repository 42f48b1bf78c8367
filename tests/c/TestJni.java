// SPDX-License-Identifier: Apache-2.0
// The functions of examples/android/mobilediffusion_jni.c in a Java machine of this computer, declared as MobileDiffusion.kt does.
package org.mobilediffusion;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

interface OnStep {
    boolean onStep(int step, int steps);
}

final class Native {
    static {
        System.load(System.getProperty("library"));
    }

    static native long open(byte[] path, long offset, long length, int format, int threads);
    static native void close(long handle);
    static native int width(long handle);
    static native int height(long handle);
    static native byte[] strange(long handle, byte[] prompt);
    static native int[] draw(long handle, byte[] prompt, long seed, int steps, OnStep onStep);
}

public final class TestJni {
    interface Body {
        void run() throws Exception;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
    static void expect(boolean condition, String what) {
        if (!condition) throw new AssertionError(what);
    }
    static void expectThrown(Class<? extends Throwable> type, String words, Body body) {
        try {
            body.run();
        } catch (Throwable e) {
            expect(type.isInstance(e) && String.valueOf(e.getMessage()).contains(words), "expected " + words + ", found " + e);
            return;
        }
        throw new AssertionError("expected " + type + ", found nothing");
    }

    // The model; a PPM of what draw.c makes of "a red apple" with seed 7.
    public static void main(String[] arguments) throws Exception {
        final byte[] path = bytes(arguments[0]);
        final long model = Native.open(path, 0, -1, 0, 0);
        expect(Native.width(model) == 128 && Native.height(model) == 128, "size");
        final int[] steps = {0};
        final int[] apple = Native.draw(model, bytes("a red apple"), 7, 0, (step, all) -> ++steps[0] == step);
        expect(steps[0] == 1, "calls");
        final byte[] ppm = java.nio.file.Files.readAllBytes(java.nio.file.Path.of(arguments[1]));
        final int begin = ppm.length - 3 * apple.length;
        for (int i = 0; i < apple.length; ++i)
            for (int k = 0; k < 3; ++k)
                expect((apple[i] >> (16 - 8 * k) & 255) == (ppm[begin + 3 * i + k] & 255) && apple[i] >>> 24 == 255, "pixel " + i);

        expect(Native.draw(model, bytes("a red apple"), 7, 4, (step, all) -> step < 2) == null, "cancelled");
        expectThrown(RuntimeException.class, "of the callback", () -> Native.draw(model, bytes("a fox"), 7, 1, (step, all) -> {
            throw new RuntimeException("of the callback");
        }));
        expectThrown(IllegalStateException.class, "one caller at a time", () -> Native.draw(model, bytes("a fox"), 7, 1,
            (step, all) -> Native.draw(model, bytes("a cat"), 7, 1, null) != null));
        expectThrown(IllegalArgumentException.class, "not UTF-8", () -> Native.draw(model, new byte[] {(byte) 0xff}, 7, 1, null));
        expectThrown(IllegalArgumentException.class, "prompt", () -> Native.draw(model, null, 7, 1, null));
        expect(Native.draw(model, bytes("\uD83E\uDD8A"), 7, 1, null) != null, "an emoji is text like any other");
        expect(new String(Native.strange(model, bytes("a helicopter")), StandardCharsets.UTF_8).contains("helicopter"), "strange");
        Native.close(model);

        // A part of a file, in int8.
        final java.nio.file.Path part = java.nio.file.Path.of(arguments[1] + ".part");
        final byte[] file = java.nio.file.Files.readAllBytes(java.nio.file.Path.of(arguments[0]));
        try (java.io.OutputStream out = java.nio.file.Files.newOutputStream(part)) {
            out.write(new byte[100]);
            out.write(file);
            out.write(new byte[10]);
        }
        final long other = Native.open(bytes(part.toString()), 100, file.length, 2, 1);
        final int[] again = Native.draw(other, bytes("a red apple"), 7, 0, null);
        expect(again.length == apple.length && !Arrays.equals(again, apple), "int8");
        Native.close(other);
        Native.close(0);
        java.nio.file.Files.delete(part);
        expectThrown(IOException.class, "cannot open", () -> Native.open(bytes("nothing"), 0, -1, 0, 0));
        expectThrown(IllegalArgumentException.class, "format", () -> Native.open(path, 0, -1, 9, 0));
        expectThrown(IllegalArgumentException.class, "path", () -> Native.open(null, 0, -1, 0, 0));
    }
}
