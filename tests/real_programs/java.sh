# Threads, a server, the time zone, TLS's authorities, a jar.
set -eu
mkdir -p src/words
cat >src/words/Main.java <<'J'
package words;
import java.net.*;
import java.nio.file.*;
import java.time.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
public class Main {
    record Word(String text, int length) {}
    public static void main(String[] arguments) throws Exception {
        System.out.println(LongStream.range(0, 100000).parallel().map(n -> n % 7).sum());
        var pool = Executors.newFixedThreadPool(8);
        var futures = new ArrayList<Future<Word>>();
        for (String word : arguments) futures.add(pool.submit(() -> new Word(word, word.length())));
        for (var future : futures) System.out.println(future.get());
        pool.shutdown();
        try (var server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            var thread = new Thread(() -> {
                try (var peer = server.accept()) { peer.getOutputStream().write("served".getBytes()); }
                catch (Exception error) { error.printStackTrace(); }
            });
            thread.start();
            try (var peer = new Socket("localhost", server.getLocalPort())) {
                System.out.println(new String(peer.getInputStream().readAllBytes()));
            }
            thread.join();
        }
        Path path = Files.createTempFile("words", null);
        Files.writeString(path, "ä");
        System.out.println(Files.readString(path) + " " + Files.size(path));
        Files.delete(path);
        var process = new ProcessBuilder("tr", "a-z", "A-Z").start();
        process.getOutputStream().write("child".getBytes());
        process.getOutputStream().close();
        System.out.println(new String(process.getInputStream().readAllBytes()));
        System.out.println(ZonedDateTime.ofInstant(Instant.EPOCH, ZoneId.of("Europe/Berlin")));
        System.out.println(new SplittableRandom(1).nextInt(100));
        System.out.println(javax.net.ssl.SSLContext.getDefault().getProtocol());
    }
}
J
javac -d classes src/words/Main.java
java -cp classes words.Main one three
jar --create --file words.jar --main-class words.Main -C classes .
java -Xmx64m -jar words.jar four | tail -1
