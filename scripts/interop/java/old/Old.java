import java.util.Arrays;
import java.util.List;

/** Owns the order of what clients from 0.11 to 3.9 do: Old BOOTSTRAP. What it calls every one of them has. */
public final class Old {
    private Old() {}

    public static void main(String[] args) throws Exception {
        Tell.open(args[0], args.length > 1 ? Arrays.asList(args).subList(1, args.length) : List.of());
        Records.run();
        Groups.run();
        Transacted.run();
        Managed.run();
        System.out.flush();
        // Threads of steps that hang must not keep the program alive.
        Runtime.getRuntime().halt(Tell.failed == 0 ? 0 : 1);
    }
}
