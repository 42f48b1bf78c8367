// SPDX-License-Identifier: Apache-2.0
import CMobileDiffusion
import CoreGraphics
import Foundation

public struct MobileDiffusionError: Error, CustomStringConvertible {
  public let status: mobilediffusion_status
  public let description: String
}

/// A model and a session of it. An actor: one caller draws at a time, and others wait.
public actor MobileDiffusion {
  public enum Format: UInt32 { case fp32, bf16, int8 }

  private let model: OpaquePointer
  private let session: OpaquePointer
  public nonisolated let width: Int
  public nonisolated let height: Int

  /// A file of the bundle: Bundle.main.url(forResource: "emoji_one_step", withExtension: "safetensors").
  /// offset and length: a part of it, such as one of several models in a file.
  public init(_ url: URL, offset: UInt64 = 0, length: UInt64? = nil, format: Format = .int8, threads: Int32 = 0) throws {
    var options = mobilediffusion_model_options()
    mobilediffusion_model_options_init(&options)
    options.format = format.rawValue
    var model: OpaquePointer?
    try check { error in
      url.withUnsafeFileSystemRepresentation { path in
        length.map { mobilediffusion_model_open_part(path, offset, $0, &options, &model, error) }
          ?? mobilediffusion_model_open(path, &options, &model, error)
      }
    }
    // The session keeps what it needs of the model, whichever is closed first.
    var info = mobilediffusion_info()
    var session: OpaquePointer?
    do {
      mobilediffusion_info_init(&info)
      try check { mobilediffusion_model_info(model, &info, $0) }
      var settings = mobilediffusion_session_options()
      mobilediffusion_session_options_init(&settings)
      settings.threads = threads
      try check { mobilediffusion_session_open(model, &settings, &session, $0) }
    } catch {
      mobilediffusion_model_close(model)
      throw error
    }
    self.model = model!
    self.session = session!
    width = Int(info.width)
    height = Int(info.height)
  }

  deinit {
    mobilediffusion_session_close(session)
    mobilediffusion_model_close(model)
  }

  /// nil: cancelled. steps 0: the model's own number. onStep: called after each step, on the thread that draws; false cancels.
  public func draw(_ prompt: String, seed: UInt64 = 0, steps: UInt32 = 0,
                   onStep: @escaping (_ step: Int, _ steps: Int) -> Bool = { _, _ in !Task.isCancelled }) throws -> CGImage? {
    var rgb = [UInt8](repeating: 0, count: 3 * width * height)
    var callback = onStep
    do {
      try prompt.withCString { text in
        try withUnsafeMutablePointer(to: &callback) { user in
          var request = mobilediffusion_request()
          mobilediffusion_request_init(&request)
          request.prompt = text
          request.seed = seed
          request.steps = steps
          request.user = UnsafeMutableRawPointer(user)
          request.on_step = { user, step, steps in
            user!.assumingMemoryBound(to: ((Int, Int) -> Bool).self).pointee(Int(step), Int(steps)) ? 0 : 1
          }
          try check { mobilediffusion_generate(session, &request, &rgb, rgb.count, $0) }
        }
      }
    } catch let error as MobileDiffusionError where error.status == MOBILEDIFFUSION_CANCELLED {
      return nil
    }
    return CGImage(width: width, height: height, bitsPerComponent: 8, bitsPerPixel: 24, bytesPerRow: 3 * width,
                   space: CGColorSpaceCreateDeviceRGB(), bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue),
                   provider: CGDataProvider(data: Data(rgb) as CFData)!, decode: nil, shouldInterpolate: true,
                   intent: .defaultIntent)
  }
}

private func check(_ call: (UnsafeMutablePointer<mobilediffusion_error>) -> mobilediffusion_status) throws {
  var error = mobilediffusion_error()
  let status = call(&error)
  if status == MOBILEDIFFUSION_OK { return }
  let text = withUnsafeBytes(of: &error.message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  throw MobileDiffusionError(status: status, description: text)
}
