// odd PICTURES OUT: what Preprocess.swift makes of each picture by each list of steps.

import Foundation

struct Picture: Decodable {
    let width: Int
    let height: Int
}

struct Index: Decodable {
    let pictures: [Picture]
    let preparations: [[Step]]
}

@main
enum Odd {
    static func main() throws {
        let folders = CommandLine.arguments.dropFirst().map { URL(fileURLWithPath: $0, isDirectory: true) }
        let (pictures, out) = (folders[0], folders[1])
        let text = try Data(contentsOf: pictures.appendingPathComponent("index.json"))
        let index = try JSONDecoder().decode(Index.self, from: text)
        for (number, picture) in index.pictures.enumerated() {
            let data = [UInt8](try Data(contentsOf: pictures.appendingPathComponent("\(number).rgba")))
            for (k, steps) in index.preparations.enumerated() {
                let stored = Pixels(width: picture.width, height: picture.height, channels: 4, data: data)
                let found = Data(prepare(stored, steps).data)
                try found.write(to: out.appendingPathComponent("\(number)-\(k).rgb"))
            }
        }
    }
}
