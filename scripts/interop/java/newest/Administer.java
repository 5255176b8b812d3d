final class Administer { static void run() {} }
