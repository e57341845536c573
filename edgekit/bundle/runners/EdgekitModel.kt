// The model of this folder in an Android app. Put the .tflite, its .json (as model.json) into assets/ and
//     implementation("com.google.ai.edge.litert:litert:1.0.1")
// into the app's dependencies; keep the model uncompressed: android { androidResources { noCompress += "tflite" } }

import android.content.Context
import android.graphics.Bitmap
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import kotlin.math.roundToInt
import org.json.JSONArray
import org.json.JSONObject
import org.tensorflow.lite.Interpreter

class EdgekitModel(context: Context, threads: Int = 4) : AutoCloseable {
    private val about = JSONObject(context.assets.open("model.json").bufferedReader().readText())
    private val input = about.getJSONArray("inputs").getJSONObject(0)
    private val shape = input.getJSONArray("shape").ints()
    private val mean = about.getJSONObject("preprocess").getJSONArray("mean").floats()
    private val scale = about.getJSONObject("preprocess").getJSONArray("scale").floats()
    private val color = about.getJSONObject("preprocess").getString("color")
    private val interpreter = context.assets.openFd(about.getString("file")).use { file ->
        val model = file.createInputStream().channel.map(FileChannel.MapMode.READ_ONLY, file.startOffset, file.declaredLength)
        Interpreter(model, Interpreter.Options().setNumThreads(threads).setUseXNNPACK(true))
    }

    val labels: List<String> = about.getJSONArray("labels").let { all -> List(all.length()) { all.getString(it) } }

    /** Every output by its name in model.json, as floats in the order of its shape. The image is NHWC. */
    fun run(image: Bitmap): Map<String, FloatArray> {
        val (height, width, channels) = shape.drop(1)
        val pixels = IntArray(height * width)
        Bitmap.createScaledBitmap(image, width, height, true).getPixels(pixels, 0, width, 0, 0, width, height)
        val buffer = direct(height * width * channels, input.getString("dtype"))
        for (pixel in pixels) {
            val (r, g, b) = listOf(pixel shr 16 and 255, pixel shr 8 and 255, pixel and 255).map { it.toFloat() }
            val parts = when {
                channels == 1 -> listOf(0.299f * r + 0.587f * g + 0.114f * b)
                color == "bgr" -> listOf(b, g, r)
                else -> listOf(r, g, b)
            }
            parts.forEachIndexed { channel, part ->
                put(buffer, (part - mean[channel % mean.size]) * scale[channel % scale.size], input)
            }
        }
        buffer.rewind()
        val outputs = about.getJSONArray("outputs").let { all -> List(all.length()) { all.getJSONObject(it) } }
        val signature = interpreter.signatureKeys.first()
        val results = outputs.associate { it.getString("name") to direct(it.getJSONArray("shape").ints().product(), it.getString("dtype")) }
        interpreter.runSignature(mapOf(input.getString("name") to buffer), results, signature)
        return outputs.associate { it.getString("name") to floats(results.getValue(it.getString("name")), it) }
    }

    override fun close() = interpreter.close()

    private fun direct(count: Int, dtype: String): ByteBuffer =
        ByteBuffer.allocateDirect(count * if (dtype == "float32" || dtype == "int32") 4 else 1).order(ByteOrder.nativeOrder())

    private fun put(buffer: ByteBuffer, value: Float, tensor: JSONObject) {
        val quantization = tensor.optJSONObject("quantization")
        if (quantization == null) buffer.putFloat(value)
        else buffer.put((value / quantization.getDouble("scale") + quantization.getInt("zero_point")).roundToInt().toByte())
    }

    private fun floats(buffer: ByteBuffer, tensor: JSONObject): FloatArray {
        buffer.rewind()
        val quantization = tensor.optJSONObject("quantization")
        val dtype = tensor.getString("dtype")
        return FloatArray(tensor.getJSONArray("shape").ints().product()) {
            val stored = when (dtype) {
                "float32" -> buffer.getFloat()
                "int32" -> buffer.getInt().toFloat()
                "uint8" -> (buffer.get().toInt() and 255).toFloat()
                else -> buffer.get().toFloat()
            }
            if (quantization == null || dtype == "float32") stored
            else (stored - quantization.getInt("zero_point")) * quantization.getDouble("scale").toFloat()
        }
    }

    private fun JSONArray.ints() = List(length()) { getInt(it) }
    private fun JSONArray.floats() = List(length()) { getDouble(it).toFloat() }
    private fun List<Int>.product() = fold(1) { all, one -> all * one }
}
