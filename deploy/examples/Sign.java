import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.Signature;
import java.security.spec.EdECPrivateKeySpec;
import java.security.spec.NamedParameterSpec;
import java.time.Instant;
import java.util.Base64;

/**
 * Signs a change message as a center does, and prints it, ready to be published with QoS 1 and not retained. The same as sign.py
 * beside this file, which explains the arguments; needs Java 17 or newer and no library:
 *
 * <pre>
 * java Sign.java KEY STREAM AUD EPOCH SEQ OPS.json >message
 * mosquitto_pub -q 1 -t dormgate/v1/AUD/down/changes -f message
 * </pre>
 */
public class Sign {
    static String base64url(byte[] data) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(data);
    }

    /** The JWS compact serialisation with EdDSA (RFC 7515, RFC 8037) of the claims. */
    static String sign(String stream, String claims, byte[] seed) throws Exception {
        String header = "{\"alg\":\"EdDSA\",\"kid\":\"%s\",\"typ\":\"JWT\"}".formatted(stream);
        String text = base64url(header.getBytes(StandardCharsets.UTF_8)) + "." + base64url(claims.getBytes(StandardCharsets.UTF_8));
        Signature ed25519 = Signature.getInstance("Ed25519");
        ed25519.initSign(KeyFactory.getInstance("Ed25519").generatePrivate(new EdECPrivateKeySpec(NamedParameterSpec.ED25519, seed)));
        ed25519.update(text.getBytes(StandardCharsets.US_ASCII));
        return text + "." + base64url(ed25519.sign());
    }

    public static void main(String[] args) throws Exception {
        byte[] seed = Base64.getUrlDecoder().decode(Files.readString(Path.of(args[0])).strip());
        String stream = args[1], aud = args[2], epoch = args[3], seq = args[4];
        String ops = Files.readString(Path.of(args[5])).strip();
        long iat = args.length > 6 ? Long.parseLong(args[6]) : Instant.now().getEpochSecond();
        // The names have no character that JSON escapes.
        String claims = "{\"v\":1,\"iss\":\"%s\",\"aud\":\"%s\",\"iat\":%d,\"epoch\":%s,\"seq\":%s,\"ops\":%s}"
                .formatted(stream, aud, iat, epoch, seq, ops);
        System.out.print(sign(stream, claims, seed));
    }
}
