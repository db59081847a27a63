// Java's path validation as a judge, for as long as there is input. A line asks, in base64:
//   path HOST COUNT ROOT [CERTIFICATE ...] [LIST ...]
// COUNT certificates, the root first, then the lists, which together say of each that it is not revoked; HOST may
// be "-". The answer is a line for each finding, and a line with a dot.
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.security.cert.*;
import java.util.*;

public class Judge {
    static final String SERVER = "1.3.6.1.5.5.7.3.1";

    public static void main(String[] arguments) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = input.readLine()) != null; ) {
            try {
                path(factory, line.split(" "));
            } catch (Exception error) {
                System.out.println(error.toString().replaceAll("\\s+", " "));
            }
            System.out.println(".");
            System.out.flush();
        }
    }

    static void path(CertificateFactory factory, String[] words) throws Exception {
        int count = Integer.parseInt(words[2]);
        List<X509Certificate> path = new ArrayList<>();
        List<CRL> lists = new ArrayList<>();
        for (int at = 3; at < words.length; at++) {
            ByteArrayInputStream der = new ByteArrayInputStream(Base64.getDecoder().decode(words[at]));
            if (at < 3 + count) path.add((X509Certificate) factory.generateCertificate(der));
            else lists.add(factory.generateCRL(der));
        }
        X509Certificate root = path.remove(0);
        root.verify(root.getPublicKey());
        if (path.isEmpty()) return;

        Collections.reverse(path);
        PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(root, null)));
        parameters.setRevocationEnabled(!lists.isEmpty());
        parameters.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(lists)));
        CertPathValidator.getInstance("PKIX").validate(factory.generateCertPath(path), parameters);
        if (!words[1].equals("-")) server(path.get(0), words[1]);
    }

    // What its TLS asks of a server beyond the path (X509TrustManager).
    static void server(X509Certificate leaf, String host) throws Exception {
        List<String> purposes = leaf.getExtendedKeyUsage();
        if (purposes != null && !purposes.contains(SERVER)) System.out.println("not for servers");
        boolean[] usages = leaf.getKeyUsage();
        if (usages != null && !usages[0] && !usages[2] && !usages[4]) System.out.println("no key usage of servers");
        boolean named = false;
        for (List<?> name : Optional.ofNullable(leaf.getSubjectAlternativeNames()).orElse(List.of()))
            named |= name.get(0).equals(2) && name.get(1).equals(host);
        if (!named) System.out.println("not the certificate of " + host);
    }
}
