import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialAlteration;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/** Users and what they may do, as an administrator sets them: Rights BOOTSTRAP (user|allow|withdraw)... */
public final class Rights {
    public static void main(String[] args) throws Exception {
        List<UserScramCredentialAlteration> users = new ArrayList<>();
        List<AclBinding> allowed = new ArrayList<>();
        List<AclBindingFilter> withdrawn = new ArrayList<>();
        for (String arg : Arrays.asList(args).subList(1, args.length)) {
            String[] parts = arg.split("\\|");
            switch (parts[0]) {
                case "user" -> users.add(new UserScramCredentialUpsertion(
                        parts[1], new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), parts[2]));
                case "allow" -> allowed.add(binding(parts));
                case "withdraw" -> withdrawn.add(binding(parts).toFilter());
                default -> throw new IllegalArgumentException(arg);
            }
        }
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", args[0]))) {
            if (!users.isEmpty()) {
                admin.alterUserScramCredentials(users).all().get();
            }
            admin.createAcls(allowed).all().get();
            admin.deleteAcls(withdrawn).all().get();
        }
    }

    /** user, resource, pattern, name, operation. */
    private static AclBinding binding(String[] parts) {
        ResourceType resource = ResourceType.fromString(parts[2]);
        PatternType pattern = PatternType.valueOf(parts[3].toUpperCase(Locale.ROOT));
        AccessControlEntry entry = new AccessControlEntry(
                "User:" + parts[1], "*", AclOperation.fromString(parts[5]), AclPermissionType.ALLOW);
        return new AclBinding(new ResourcePattern(resource, parts[4], pattern), entry);
    }
}
