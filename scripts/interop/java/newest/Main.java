import java.util.Arrays;
import java.util.List;

/** Owns the order of the areas: Main BOOTSTRAP AREA... */
public final class Main {
    private Main() {}

    public static void main(String[] args) throws Exception {
        List<String> areas = Arrays.asList(args).subList(1, args.length);
        for (String area : areas) {
            Out.area(area);
            Env.open(args[0]);
            switch (area) {
                case "produce" -> Produce.run();
                case "txn" -> Transactions.run();
                case "classic" -> Consume.run("classic");
                case "consumer" -> Consume.run("consumer");
                case "migrate" -> Migrate.run();
                case "share" -> Share.run();
                case "admin" -> Administer.run();
                case "zombies" -> Zombies.run();
                case "absent" -> Absent.run();
                case "before-restart" -> Restart.before();
                case "after-restart" -> Restart.after();
                default -> throw new IllegalArgumentException("no area " + area);
            }
        }
        System.out.flush();
        // Threads of steps that hang must not keep the program alive.
        Runtime.getRuntime().halt(0);
    }
}
