# What the bench has tcllib serve: directories of files below ROOT.
#
#     tclsh bench/pop3d.tcl ROOT PORT USERS
package require pop3d
package require pop3d::dbox
package require pop3d::udb
package require log

lassign $argv root port count

::log::lvSuppressLE emergency
set users [::pop3d::udb::new]
for {set i 0} {$i < $count} {incr i} {
    $users add u$i secret u$i
}
set box [::pop3d::dbox::new]
$box base $root
set server [::pop3d::new]
$server configure -port $port -auth $users -storage $box -socket {::socket -myaddr 127.0.0.1}
$server up
vwait forever
