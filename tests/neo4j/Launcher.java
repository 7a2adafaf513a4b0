import java.nio.file.Path;
import org.neo4j.dbms.api.DatabaseManagementServiceBuilder;

/** Runs Neo4j from HOME/neo4j.conf until its standard input closes: a test run that is killed leaves no server. */
public class Launcher {
    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]);
        var service = new DatabaseManagementServiceBuilder(home)
                .loadPropertiesFromFile(home.resolve("neo4j.conf"))
                .build();
        System.out.println("ready");
        System.in.read();
        service.shutdown();
    }
}
