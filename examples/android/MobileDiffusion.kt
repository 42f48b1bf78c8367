// SPDX-License-Identifier: Apache-2.0
package org.mobilediffusion

import android.content.Context
import android.graphics.Bitmap
import java.io.Closeable

/** Called after each step, on the thread that draws; false cancels. */
fun interface OnStep {
    fun onStep(step: Int, steps: Int): Boolean
}

/** mobilediffusion_jni.c, whose functions are named after this class. */
internal object Native {
    init {
        System.loadLibrary("mobilediffusion_jni")
    }

    @JvmStatic external fun open(path: ByteArray, offset: Long, length: Long, format: Int, threads: Int): Long
    @JvmStatic external fun close(handle: Long)
    @JvmStatic external fun width(handle: Long): Int
    @JvmStatic external fun height(handle: Long): Int
    @JvmStatic external fun strange(handle: Long, prompt: ByteArray): ByteArray
    @JvmStatic external fun draw(handle: Long, prompt: ByteArray, seed: Long, steps: Int, onStep: OnStep?): IntArray?
}

/**
 * A model and a session of it. Draw on a thread of your own (Dispatchers.Default): one caller draws at a time, and others wait.
 * A model that cannot be read is an IOException, a prompt that cannot an IllegalArgumentException.
 */
class MobileDiffusion(path: String, offset: Long, length: Long, format: Format = Format.INT8, threads: Int = 0) : Closeable {
    enum class Format { FP32, BF16, INT8 }

    private var handle = Native.open(path.encodeToByteArray(), offset, length, format.ordinal, threads)
    private val open: Long
        get() = handle.also { check(it != 0L) { "MobileDiffusion: expected one that is open" } }
    val width = Native.width(handle)
    val height = Native.height(handle)

    /** null: cancelled. steps 0: the model's own number. */
    @Synchronized
    fun draw(prompt: String, seed: Long = 0, steps: Int = 0, onStep: OnStep? = null): Bitmap? =
        Native.draw(open, prompt.encodeToByteArray(), seed, steps, onStep)
            ?.let { Bitmap.createBitmap(it, width, height, Bitmap.Config.ARGB_8888) }

    /** What of a prompt the model was never taught; empty: nothing. */
    @Synchronized
    fun strange(prompt: String): String = Native.strange(open, prompt.encodeToByteArray()).decodeToString()

    @Synchronized
    override fun close() {
        Native.close(handle)
        handle = 0
    }

    companion object {
        /** From an asset that lies in the package uncompressed (androidResources.noCompress), read where it lies. */
        fun fromAsset(context: Context, name: String, format: Format = Format.INT8, threads: Int = 0): MobileDiffusion =
            context.assets.openFd(name).use {
                MobileDiffusion("/proc/self/fd/${it.parcelFileDescriptor.fd}", it.startOffset, it.length, format, threads)
            }
    }
}
